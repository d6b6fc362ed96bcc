"""The measuring process under each scenario, and what it tells of models that misbehave."""

import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from engine_networks import network

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.engine import lane
from autotune.errors import StageError

EFFORT = {"warmup_max_s": 0.3, "precision": 0.2, "min_s": 0.1, "max_s": 0.3, "tail_max_s": 0.8}
ORT = {"precision": "fp32", "onnxruntime.level": "all"}
TORCH = {"precision": "fp32", "torch.channels_last": False, "torch.freeze": False}


@pytest.fixture
def measured(tiny_taken, tiny_onnx, target, tmp_path):
    """What a child answers for the tiny model in ONNX Runtime, or for another artifact in torch."""
    store, subject, _ = tiny_taken

    def ask(scenario=None, artifact=None, effort=EFFORT):
        said = {} if scenario is None else {"scenario": scenario}
        stage = Stage(
            name="latency",
            function="",
            kind="latency",
            parameters={
                "backend": "torch" if artifact else "onnxruntime",
                "settings": TORCH if artifact else ORT,
                "batch": 4,
                "threads": 1,
                "effort": effort,
                **said,
            },
            hints={"target": asdict(target)},
            timeout_s=60.0,
        )
        out = tmp_path / "out"
        out.mkdir()
        inputs = (artifact or tiny_onnx, store.open(subject.data.key))
        answer = lane.latency(StageContext(stage, inputs, out, tmp_path))
        return answer, np.load(out / lane.SAMPLES)

    return ask


@pytest.mark.parametrize("scenario", [None, {"kind": "single_stream"}])
def test_one_request_after_the_other_unless_told_otherwise(measured, scenario):
    answer, samples = measured(scenario)
    columns = answer["columns"]
    assert columns["latency_p50_ms"]["value"] == pytest.approx(np.median(samples) / 1e6, rel=0.01)
    assert columns["throughput_per_s"]["value"] == pytest.approx(4e9 / samples.mean(), rel=0.01)
    assert answer["scenario"] == "single_stream"
    assert columns["load_seconds"]["value"] > answer["first_call_ms"] / 1e3 > 0
    assert (answer["partial"], answer["warnings"]) == (False, [])
    assert not {"nondeterministic", "leak_bytes_per_call"} & answer.keys()


def test_offline_is_a_throughput(measured):
    answer, samples = measured({"kind": "offline"})
    throughput = answer["columns"]["throughput_per_s"]
    assert throughput["value"] == pytest.approx(4e9 / samples.mean(), rel=0.01)
    assert throughput["low"] < throughput["value"] < throughput["high"]
    assert set(answer["columns"]) == {"throughput_per_s", "memory_peak_bytes", "load_seconds"}
    assert answer["batches"] == answer["samples"] == len(samples)
    assert isinstance(answer["noisy"], bool)


def test_a_server_holds_sessions_for_its_batches(measured):
    """What rate it bears beside other tests is theirs to say; what is told of it is not."""
    load = {"kind": "server", "max_batch": 4, "max_queue_delay_ms": 0.5, "p99_ms": 20.0}
    answer, samples = measured(load, effort={**EFFORT, "tail_max_s": 3.0})
    columns, told = answer["columns"], answer["server"]
    assert columns["server_rate_per_s"]["value"] == (told["rate_per_s"] or 0.0)
    latencies = [columns[f"latency_{q}_ms"]["value"] for q in ("p50", "p90", "p99")]
    assert latencies == sorted(latencies)
    assert latencies[2] == pytest.approx(np.quantile(samples, 0.99) / 1e6)
    assert columns["memory_peak_bytes"]["value"] > 0
    assert (told["max_batch"], told["max_queue_delay_ms"], told["p99_limit_ms"]) == (4, 0.5, 20.0)
    assert len(told["probes"]) >= 1
    assert answer["scenario"] == "server"


def test_a_limit_below_one_request_is_a_rate_of_zero_and_no_failure(measured):
    load = {"kind": "server", "max_batch": 1, "max_queue_delay_ms": 0.0, "p99_ms": 1e-4}
    answer, _ = measured(load)
    assert answer["columns"]["server_rate_per_s"]["value"] == 0.0
    assert "p99 <= 0.0001 ms" in answer["warnings"][0]


def test_a_scenario_that_does_not_exist_is_named(measured):
    with pytest.raises(StageError, match="no scenario 'burst': known are single_stream, offline"):
        measured({"kind": "burst"})


def test_a_model_that_leaks_and_answers_differently_is_told(measured, tmp_path):
    body = "self.kept.append(torch.ones(65536)); return x.flatten(1) + torch.rand(1)"
    answer, _ = measured(artifact=network(tmp_path, body))
    assert answer["leak_bytes_per_call"] == pytest.approx(4 * 65536, rel=0.2)
    assert 0 < answer["nondeterministic"]["max_abs_diff"] < 1
    differs, leaks = answer["warnings"]
    assert differs.startswith("the same request was answered differently later on")
    assert leaks.endswith("bytes with every request: it leaks")
    assert answer["columns"]["latency_p50_ms"]["value"] > 0


# ---- the lane ------------------------------------------------------------------------------------

TAKES = """
import os, sys
from autotune.engine.child import take
take([int(sys.argv[1])], ahead=sys.argv[2] == "ahead")
print(sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0))
"""
RAISES = "import os; os.setpriority(os.PRIO_PROCESS, 0, -20)"


def told(program, *arguments):
    ask = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(ask, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("word", ["ahead", "in turn"])
def test_a_measuring_process_is_on_its_lane_and_ahead_of_others_where_it_may(word):
    core, usual = max(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)
    raised = word == "ahead" and told(RAISES).returncode == 0
    assert told(TAKES, core, word).stdout == f"[{core}] {-20 if raised else usual}\n"
