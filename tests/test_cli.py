"""The command line as a user types it: what is printed, and how it ends."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import autotune

TASK = """
import numpy as np
import torch
from torch import nn
from autotune import Data

def build_model(width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))

def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8)).astype("float32")
    y = (x[:, 0] > 0).astype("int64")
    return Data(train=(x[:100], y[:100]), calibration=x[100:140], test=(x[140:], y[140:]))
"""
SPACE = """
model: {factory: task.py:build_model, args: {width: 4}}
data: task.py:data
targets: {local: {price_per_hour: 0.1}}
slo: [latency_p99 <= 50ms, minimize cost]
budget: {trials: 6, time: 90s}
space:
  batch: [1, 2]
  precision: [fp32, int8]
  ptq: {samples: 32}
  backend: {onnxruntime: {level: [basic, all]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    (folder / "task.py").write_text(textwrap.dedent(TASK))
    (folder / "space.yaml").write_text(SPACE)
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    """A run through the command line: the run, and what was printed."""
    done = type_in(folder, "run", "space.yaml")
    assert done.returncode == 0, done.stderr
    return autotune.Run(folder / "runs" / folder.name), done


def type_in(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autotune", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )


def test_the_help_answers_at_once(folder):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        done = type_in(folder, "--help")
        times.append(time.perf_counter() - start)
    assert "Pareto front" in done.stdout
    assert sorted(times)[2] <= 0.4


def test_a_run_says_what_is_ahead_and_ends_with_the_pick(finished):
    run, done = finished
    assert "configurations" in done.stderr
    assert "onnxruntime makes integer kernels of INT8 only from level extended up" in done.stderr
    assert "pick trial" in done.stdout
    assert "met latency_p99 <= 50ms" in done.stdout
    for word in ("Traceback", "Warning", "WARNING", "ray::"):
        assert word not in done.stdout + done.stderr
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {
        "spec.yaml",
        "journal.jsonl",
        "log.txt",
        "trials.parquet",
        "trials.csv",
        "pareto.csv",
        "best",
        "environment.json",
        "report.html",
    }
    assert (run.folder / "best" / "model.onnx").exists()


def test_its_table_has_the_promised_columns(finished):
    run, _ = finished
    table = run.trials
    assert {
        "trial",
        "outcome",
        "reason",
        "on_front",
        "knob.batch",
        "knob.onnxruntime.level",
        "accuracy",
        "latency_p50_ms",
        "latency_p50_ms_low",
        "latency_p50_ms_high",
        "latency_p99_ms",
        "throughput_per_s",
        "cost_usd_per_million",
        "size_bytes",
        "stage_seconds",
    } <= set(table.columns)
    assert len(table) == 6
    assert set(table["outcome"]) == {"completed"}
    assert list(table["origin"][:2]) == ["baseline", "baseline"]
    assert len(run.front) >= 1
    bracketed = table["latency_p50_ms"].between(
        table["latency_p50_ms_low"], table["latency_p50_ms_high"]
    )
    assert bracketed.all()


def test_the_same_command_on_a_finished_run_measures_nothing_again(folder, finished):
    run, _ = finished
    before = len(run.data.events)
    start = time.perf_counter()
    done = type_in(folder, "run", "space.yaml", "--json")
    assert time.perf_counter() - start < 10
    assert done.returncode == 0
    assert json.loads(done.stdout)["pick"]["trial"] == run.pick().trial
    assert len(run.data.events) == before


@pytest.mark.slow
def test_more_trials_go_on_from_there(folder, finished):
    run, _ = finished
    before = {t.number: t.configuration.key for t in run.data.trials}
    done = type_in(folder, "run", "space.yaml", "--trials", "7", "--quiet")
    assert done.returncode == 0, done.stderr
    after = {t.number: t.configuration.key for t in run.data.trials}
    assert len(after) == 7
    assert before.items() <= after.items()
    assert len(set(after.values())) == 7


def test_pick_exits_with_3_and_the_nearest_miss_if_nothing_fits(folder, finished):
    run, _ = finished
    done = type_in(folder, "pick", str(run.folder), "--p99", "1us")
    assert done.returncode == 3
    assert "comes nearest" in done.stderr
    assert "missed" in done.stderr


def test_pick_under_other_limits(folder, finished):
    run, _ = finished
    done = type_in(
        folder, "pick", str(run.folder), "--p99", "20ms", "--max-accuracy-drop", "5%", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [check["met"] for check in found["checks"]] == [True] * len(found["checks"])
    assert found["configuration"]["backend"] in ("onnxruntime", "torch")


@pytest.mark.parametrize(
    ("words", "place", "cause", "remedy"),
    [
        (("--p99", "2GB"), "--p99", "cannot be given as unit 'GB'", "ms"),
        (("--minimize", "latency"), "--minimize", "nothing called 'latency'", "latency_p50"),
        (("--max-accuracy-drop", "much"), "--max-accuracy-drop", "not an amount", "2ms"),
    ],
)
def test_pick_names_the_option_that_is_wrong(folder, finished, words, place, cause, remedy):
    run, _ = finished
    done = type_in(folder, "pick", str(run.folder), *words)
    assert done.returncode == 2
    for part in (place, cause, remedy):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("batch:", "batchs:"), ("space.yaml:", "space.batchs", "batch")),
        (("[1, 2]", "[]"), ("space.yaml:", "space.batch", "empty")),
        (("trials: 6", "trials: 0"), ("space.yaml:", "budget.trials")),
        (("<= 50ms", "<= 50GB"), ("space.yaml:", "slo", "GB")),
        (("task.py:data", "task.py:date"), ("space.yaml:", "data", "date")),
        (("onnxruntime:", "tensorflow:"), ("space.yaml:", "tensorflow")),
    ],
)
def test_a_wrong_space_file_is_told_with_its_line(folder, change, parts):
    text = (folder / "space.yaml").read_text()
    assert change[0] in text
    (folder / "wrong").mkdir(exist_ok=True)
    (folder / "wrong" / "task.py").write_text((folder / "task.py").read_text())
    (folder / "wrong" / "space.yaml").write_text(text.replace(*change))
    done = type_in(folder / "wrong", "run", "space.yaml")
    assert done.returncode == 2
    for part in parts:
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "wrong" / "runs").exists()


@pytest.mark.slow
def test_another_spec_in_the_same_folder_is_refused_and_forks(folder, finished):
    run, _ = finished
    other = ("run", "space.yaml", "--set", "space.batch=[1]", "--trials", "4", "--quiet")
    refused = type_in(folder, *other)
    assert refused.returncode == 2
    assert "space.batch: was [1, 2], is 1" in refused.stderr
    assert "--fork" in refused.stderr
    forked = type_in(folder, *other, "--fork")
    assert forked.returncode == 0, forked.stderr
    beside = autotune.Run(run.folder.with_name(f"{run.folder.name}-2"))
    assert len(beside.trials) == 4
    assert not any(t.executed for t in beside.data.trials if t.origin != "sampler")


@pytest.mark.usefixtures("finished")
def test_changed_code_is_not_mixed_into_a_run(folder):
    task = folder / "task.py"
    kept = task.read_text()
    try:
        task.write_text(kept.replace("nn.ReLU()", "nn.GELU()"))
        done = type_in(folder, "run", "space.yaml", "--trials", "20")
    finally:
        task.write_text(kept)
    assert done.returncode == 2
    assert "the model's code or weights changed" in done.stderr


def test_validate_lists_knobs_and_reasons(folder):
    done = type_in(folder, "validate", "space.yaml")
    assert done.returncode == 0, done.stderr
    assert "graph optimization level" in done.stdout
    assert "combinations removed" in done.stdout


def test_doctor_tells_every_plugin(folder):
    done = type_in(folder, "doctor", "--quick")
    assert done.returncode == 0, done.stderr
    for word in ("cores", "backend openvino", "technique distill", "sampler tpe", "metric top1"):
        assert word in done.stdout
    found = json.loads(type_in(folder, "doctor", "--quick", "--json").stdout)
    assert set(found) == {"machine", "plugins", "precisions", "missed"}
    assert "VNNI" in found["machine"]["instruction_sets"]


def test_a_colon_and_digits_are_not_an_emoji(folder):
    done = type_in(folder, "run", "space.yaml", "--address", "127.0.0.1:1234", "--out", "x")
    assert done.returncode == 2
    assert "127.0.0.1:1234" in done.stderr


def test_gc_keeps_the_front(folder, finished):
    run, _ = finished
    done = type_in(folder, "gc", str(run.folder))
    assert done.returncode == 0
    kept = {path.name for path in (run.folder / "store").glob("??/*")}
    best = run.pick()
    trial = next(t for t in run.data.trials if t.number == best.trial)
    assert trial.measurement.facts["artifact"] in kept
    opened = next(event for event in run.data.events if event["event"] == "open")
    assert len(opened["artifacts"]) == 2
    assert set(opened["artifacts"]) <= kept


def test_profile_tells_where_the_time_of_the_pick_and_of_its_baseline_goes(folder, finished):
    run, _ = finished
    done = type_in(folder, "profile", str(run.folder), "--json")
    assert done.returncode == 0, done.stderr
    given, best = json.loads(done.stdout)["profiles"]
    assert given["title"] == "The model as given"
    assert best["trial"] == run.pick().trial
    assert best["measured_p50_ms"] > 0
    for told in (given, best):
        assert 0 < told["total_ms"] == pytest.approx(sum(row["ms"] for row in told["rows"]))
        assert told["bare_ms"] > 0
    assert "Where the time goes" in (run.folder / "report.html").read_text()
    events = len(run.data.events)
    again = type_in(folder, "profile", f"{run.folder}:{best['trial']}", "--nodes")
    assert "The pick, trial" in again.stdout
    assert best["rows"][0]["name"] in again.stdout
    assert len(run.data.events) == events


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--batch", "2"), "--batch: only for a model that is no trial of a run"),
        (("--trial", "4711"), "there is no trial 4711"),
    ],
)
def test_profile_refuses_what_says_nothing_of_a_trial(folder, finished, words, cause):
    done = type_in(folder, "profile", str(finished[0].folder), *words)
    assert done.returncode == 2
    assert cause in done.stderr
