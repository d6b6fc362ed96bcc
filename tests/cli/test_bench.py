"""``autotune bench`` as a user types it: what it measures, what it prints, what it refuses."""

import json
import re
import threading

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from autotune import hardware
from autotune.cli import group
from autotune.conversion import arrays, export
from autotune.deploy import inputs
from autotune.errors import MachineError, RunFolderError, TaskError, UserError
from autotune.runfolder import JOURNAL, SPEC, encode_outcome
from autotune.spec import dump
from autotune.store.artifacts import Store
from autotune.store.journal import Journal
from autotune.target import Target
from autotune.task import ModelSource
from autotune.training.network import write_source
from autotune.trial import Completed, Estimate, Failed, Measurement

BRIEF = ("--seconds", "0.3")
KNOBS = {"backend": "onnxruntime", "precision": "fp32", "batch": 2, "onnxruntime.level": "basic"}


def model(path, shape=("batch", 8), kind=TensorProto.FLOAT):
    """An ONNX file: whatever comes in, as float, times a matrix of 8 x 3."""
    weights = np.arange(24, dtype=np.float32).reshape(8, 3) / 24
    nodes = [
        helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["float", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*shape[:-1], 3])],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel())],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, str(path))
    return path


def typed(*words):
    return CliRunner().invoke(
        group, ["bench", *map(str, words)], standalone_mode=False, catch_exceptions=True
    )


def refused(kind, *words):
    error = typed(*words).exception
    assert isinstance(error, kind), error
    return error


@pytest.fixture
def file(tmp_path):
    return model(tmp_path / "net.onnx")


@pytest.fixture
def run(tmp_path):
    """A run folder: trial 1 was measured and picked, trial 2 failed."""
    folder = tmp_path / "r"
    store = Store(folder / "store")
    x = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    with store.writing("model-key") as out:
        path = model(out / export.FILE)
        write_source(ModelSource(onnx=str(path)), out)
        store.commit("model-key", out, stage="model", seconds=0.0, facts={})
    with store.writing("data-key") as out:
        arrays.write(out, {"test": ({"x": x}, None)})
        store.commit("data-key", out, stage="data", seconds=0.0, facts={})
    measured = Completed(
        Measurement({"latency_p50_ms": Estimate(1.0)}, {"artifact": "model-key"}, "")
    )
    target = {"lane_cores": 1, "machine": {"cpu": hardware.machine().cpu}}
    opened = {"environment": {"targets": {"local": target}}, "artifacts": ["model-key", "data-key"]}
    ends = {1: measured, 2: Failed("compile", "no kernel for this")}
    events = [{"event": "open", "at": 0.0, **opened}]
    for number, outcome in ends.items():
        settings = {**KNOBS, "threads": 1}
        events.append(
            {"event": "trial", "number": number, "origin": "sampler", "settings": settings}
        )
        events.append({"event": "outcome", "number": number, "outcome": encode_outcome(outcome)})
    (folder / SPEC).write_text(dump({"name": "r", "slo": ["latency_p50 <= 9ms"]}))
    with Journal(folder / JOURNAL) as journal:
        for event in [*events, {"event": "pick", "trial": 1}]:
            journal.append(event)
    return folder


def test_an_onnx_file_is_measured_on_values_that_are_said_to_be_drawn(file):
    done = typed(file, *BRIEF)
    assert done.return_value == 0
    assert re.search(r"latency_p50_ms +[0-9.]+ ms", done.stdout)
    assert "samples: random values (x float32 64x8; seed 0), not real data" in done.stdout
    assert "one request at a time, batch 1" in done.stdout
    assert f"{file}: onnxruntime threads=1" in done.stdout


def test_the_json_is_one_document_that_holds_it_all(file):
    done = typed(file, *BRIEF, "--json", "--batch", 4, "--scenario", "offline")
    answer = json.loads(done.stdout)
    assert answer["scenario"] == {"kind": "offline", "batch": 4}
    throughput = answer["columns"]["throughput_per_s"]
    assert throughput["low"] <= throughput["value"] <= throughput["high"]
    assert answer["settings"]["onnxruntime.level"] == "all"
    assert answer["cpu"] == hardware.machine().cpu
    assert len(answer["cores"]) == answer["threads"] == 1
    assert answer["facts"]["batch"] == 4
    assert isinstance(answer["warnings"], list)


def test_who_has_the_lane_is_told_beside_the_json(file):
    taken, done = threading.Event(), threading.Event()

    def hold():
        with hardware.lane(Target("other", 1, 1, None, hardware.machine())):
            taken.set()
            done.wait(1.0)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(60)
    answer = typed(file, *BRIEF, "--json")
    done.set()
    holder.join()
    assert json.loads(answer.stdout)["model"] == str(file)
    assert "waiting for the lane" in answer.stderr


def test_a_limit_that_no_rate_meets_is_told_with_exit_code_3(file):
    load = ("--scenario", "server", "--slo", "p99=0.1us", "--max-batch", 2)
    done = typed(file, *load, "--max-queue-delay", "1ms", *BRIEF)
    assert done.return_value == 3
    assert "server: p99 <= 0.0001 ms, batches of up to 2, waiting at most 1 ms" in done.stdout
    assert re.search(r"server_rate_per_s +0 ", done.stdout)
    assert "p99 <= 0.0001 ms" in done.stderr


@pytest.mark.parametrize("word", ["{run}", "{run}:1", "{run}/best"])
def test_a_trial_a_pick_and_its_files_are_measured_as_they_were(run, word):
    (run / "best").mkdir()
    for path in (run / "store" / "mo" / "model-key").iterdir():
        (run / "best" / path.name).write_bytes(path.read_bytes())
    record = {"trial": 1, "configuration": {**KNOBS, "threads": 1}}
    (run / "best" / "configuration.json").write_text(json.dumps(record))
    answer = json.loads(typed(word.format(run=run), *BRIEF, "--json").stdout)
    assert answer["scenario"] == {"kind": "single_stream", "batch": 2}
    assert answer["settings"] == {"precision": "fp32", "onnxruntime.level": "basic"}
    real = answer["data"] == "the test data of its run"
    assert real != word.endswith("best")


def test_data_of_the_user(file, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5, 8), dtype=np.float32))
    done = typed(file, *BRIEF, "--data", tmp_path / "x.npy")
    assert done.return_value == 0
    assert f"samples: {tmp_path / 'x.npy'}" in done.stdout


def test_data_of_several_inputs_is_named(tmp_path):
    x = {"x": np.ones((5, 8), dtype=np.float32), "mask": np.zeros((5, 2), dtype=np.int64)}
    known = (inputs.Input("mask", "int64", ("b", 2)), inputs.Input("x", "float32", ("b", "n")))
    np.savez(tmp_path / "both.npz", **x)
    for name, array in x.items():
        np.save(tmp_path / f"{name}.npy", array)
    for place in (tmp_path / "both.npz", tmp_path):
        found = inputs.read(place, known)
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in x.items()
        }


def test_an_open_axis_is_asked_for(tmp_path):
    file = model(tmp_path / "net.onnx", ("batch", "words", 8), TensorProto.INT64)
    error = refused(TaskError, file, *BRIEF)
    assert "leaves the axis 'words' open" in error.cause
    assert "--dim words=128" in error.remedy
    done = typed(file, *BRIEF, "--dim", "words=3")
    assert "x int64 64x3x8" in done.stdout


def test_a_model_of_a_fixed_batch_is_measured_at_it(tmp_path):
    file = model(tmp_path / "net.onnx", (4, 8))
    done = typed(file, *BRIEF)
    assert "one request at a time, batch 4" in done.stdout
    assert "fixed at 4" in refused(UserError, file, "--batch", 2).cause
    load = ("--scenario", "server", "--slo", "p99=5ms")
    assert "cannot answer single requests" in refused(UserError, file, *load).cause


def array(folder, shape, dtype):
    np.save(folder / "bad.npy", np.zeros(shape, dtype=dtype))
    return folder / "bad.npy"


def test_data_that_does_not_fit_is_refused(file, tmp_path):
    wrong = array(tmp_path, (5, 8), np.float64)
    error = refused(TaskError, file, "--data", wrong)
    assert "the array is float64 (5, 8), the model's input is x float32 batchx8" in error.cause
    assert (
        "float32 (5, 9)"
        in refused(TaskError, file, "--data", array(tmp_path, (5, 9), np.float32)).cause
    )
    empty = refused(TaskError, file, "--data", array(tmp_path, (0, 8), np.float32))
    assert "do not hold one sample a row" in empty.cause
    (tmp_path / "text.npy").write_text("no array")
    assert "cannot be read" in refused(TaskError, file, "--data", tmp_path / "text.npy").cause
    np.savez(tmp_path / "named.npz", a=np.zeros((5, 8), dtype=np.float32))
    named = refused(TaskError, file, "--data", tmp_path / "named.npz")
    assert "the data's inputs are a, the model's are x" in named.cause


@pytest.mark.parametrize(
    ("words", "kind", "cause"),
    [
        (["--scenario", "server"], UserError, "and there is none"),
        (["--slo", "p99=5ms"], UserError, "is for --scenario server"),
        (["--max-batch", "4"], UserError, "is for --scenario server"),
        (["--scenario", "server", "--slo", "p99=5ms", "--batch", "4"], UserError, "single samples"),
        (["--threads", "4096"], MachineError, "4096 threads, and this machine offers"),
        (["--backend", "torch"], UserError, "an ONNX model does not run in PyTorch"),
        (["--backend", "abacus"], UserError, "no backend 'abacus'"),
        (["--seconds", "nan"], UserError, "nan is no time"),
        (["--trial", "3"], UserError, "it is no run folder"),
    ],
)
def test_what_cannot_be_asked_of_a_file_is_refused(file, words, kind, cause):
    assert cause in refused(kind, file, *words).cause


def test_what_is_no_model_is_refused(tmp_path, run):
    assert "no such file or folder" in refused(UserError, tmp_path / "none.onnx").cause
    assert "no model lies here" in refused(UserError, tmp_path).cause
    (tmp_path / "bad.onnx").write_text("no model")
    assert "ONNX Runtime cannot open it" in refused(TaskError, tmp_path / "bad.onnx").cause
    assert "there is no trial 9" in refused(RunFolderError, f"{run}:9").cause
    failed = refused(RunFolderError, run, "--trial", 2).cause
    assert failed == "trial 2 was not measured; it failed: compile: no kernel for this"
    other = refused(UserError, run, "--backend", "openvino")
    assert "it was made for onnxruntime" in other.cause
    Store(run / "store").collect(0, {"data-key"})
    assert "no longer in the store" in refused(RunFolderError, run).cause


def test_a_model_that_cannot_run_is_an_error_of_the_user_with_its_words(tmp_path):
    """Its matrix has 8 rows, and its inputs are drawn with 7 columns."""
    broken = model(tmp_path / "broken.onnx", ("batch", "n"))
    error = refused(UserError, broken, *BRIEF, "--dim", "n=7")
    assert error.place == str(broken)
    assert "MatMul" in error.cause
