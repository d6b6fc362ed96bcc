"""Taking in the user's model and data: whatever is wrong with them is told before anything starts.

Each case is the tiny task with one thing made wrong.
"""

import shutil
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from autotune.artifact import Stage
from autotune.conversion import arrays
from autotune.engine import execute, given, intake
from autotune.errors import MachineError, TaskError, UserError
from autotune.store.artifacts import Store
from autotune.task import CodeRef, ModelSource
from autotune.training import network as networks

TOP1 = {"accuracy": {"plugin": "top1"}}
X = "np.zeros((4, 1, 8, 8), np.float32)"
R = "np.random.default_rng(SEED).normal(size=(4, 1, 8, 8)).astype(np.float32)"
Y = "np.array([0, 1, 2, 0])"


def request(folder, code="", metrics=None, **changes):
    """Ask for the tiny task in ``folder`` with ``code`` added to it and values changed."""
    with (folder / "task.py").open("a") as file:
        file.write(f"\n\nBELOW = 1\n{code}\n")
    task = str(folder / "task.py")
    model = ModelSource(CodeRef(task, "build_model"), {"width": 16}, str(folder / "teacher.pt"))
    model = replace(model, **{k: v for k, v in changes.items() if k != "data"})
    return model, CodeRef(task, changes.get("data", "data")), metrics or TOP1, folder / "store"


def take(folder, code="", metrics=None, **changes):
    return intake.finish(intake.start(*request(folder, code, metrics, **changes)), seed=5)


@pytest.fixture
def folder(tiny, tmp_path):
    for name in ("task.py", "teacher.pt"):
        shutil.copy(tiny / name, tmp_path)
    return tmp_path


def refused(folder, code="", metrics=None, **changes):
    """The error of taking it in, in this process: importing torch each time takes long."""
    model, data, metrics, store = request(folder, code, metrics, **changes)
    asked = {"model": asdict(model), "data": asdict(data), "metrics": metrics, "store": str(store)}
    with pytest.raises(UserError) as caught:
        intake._take_in(asked)
    return told(caught.value)


def told(error):
    assert error.place
    assert error.remedy
    assert "Traceback" not in str(error)
    return error


def test_what_is_right_is_kept_as_artifacts(folder):
    subject, facts = take(folder)
    store = Store(folder / "store")
    assert subject.seed == 5
    assert subject.metrics == TOP1
    assert facts["samples"] == {"train": 192, "calibration": 32, "test": 96}
    assert facts["output_shape"] == [3]
    assert facts["parameters"] > 1000
    assert facts["epoch_s"] > 0
    data = store.open(subject.data.key)
    x = arrays.read(data, "test")["input"]
    assert x.shape == (96, 1, 8, 8)
    predictions = networks.predict(networks.load(store.open(subject.source.key))[0], {"x": x}, 0)
    assert (predictions.argmax(1) == arrays.labels(data, "test")).mean() > 0.9


def test_the_keys_follow_code_weights_and_data(folder):
    first, _ = take(folder)
    again, _ = take(folder.joinpath())  # a line more in the file: other code, the same data
    assert again.source.key != first.source.key
    assert again.data.key == first.data.key
    state = torch.load(folder / "teacher.pt")
    torch.save({k: v * 1 for k, v in state.items()} | {"head.bias": state["head.bias"] + 1},
               folder / "teacher.pt")  # fmt: skip
    assert given.code(again.model) != again.source.parameters["code"]


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("", "defines no 'other'"),
        ("def other(width): raise RuntimeError('out of luck')", "raised RuntimeError: out of luck"),
        ("def other(width): return [width]", "other() returned list"),
        ("def other(): return build_model()", "unexpected keyword argument 'width'"),
        ("other = 3", "not callable"),
    ],
)
def test_a_factory_that_is_none(folder, code, cause):
    error = refused(folder, code, factory=CodeRef(str(folder / "task.py"), "other"))
    assert cause in error.cause
    assert error.place.startswith(str(folder / "task.py"))


def test_a_factory_that_raises_has_its_line(folder):
    code = "def other(width):\n    raise RuntimeError('out of luck')"
    error = refused(folder, code, factory=CodeRef(str(folder / "task.py"), "other"))
    lines = (folder / "task.py").read_text().splitlines()
    assert error.place == f"{folder / 'task.py'}:{1 + lines.index(code.splitlines()[1])}"


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("def other(): return 3", "other() returned int"),
        ("def other(): return 1 / 0", "raised ZeroDivisionError"),
        (f"def other(): return Data(test=({X}[:0], {Y}[:0]))", "'test' has no samples"),
        (f"def other(): return Data(train=({X}, {Y}), test=None)", "'test' is missing"),
        (f"def other(): return Data(test={X})", "needs labels, and the part 'test' has none"),
        (f"def other(): return Data(test=({X}, {Y}[:3]))", "different lengths: input 4, labels 3"),
        (f"def other(): return Data(test=({X} + np.nan, {Y}))", "'test' holds NaN or infinite"),
        (f"def other(): return Data(test=({X}[0, 0, 0, 0], {Y}))", "is not an array of numbers"),
        ("def other(): return Data(test=(['a', 'b'], [1, 2]))", "is not an array of numbers"),
        (f"def other(): return Data(test=[{X}, {Y}])", "is not an array of numbers"),
        (
            f"def other(): return Data(train=({R}, {Y}), test=({R}, {Y}))".replace("SEED", "1"),
            "4 samples stand in both 'train' and 'test'",
        ),
        (
            f"def other(): return Data(calibration={R}[:2], test=({R}, {Y}))".replace("SEED", "1"),
            "2 samples stand in both 'calibration' and 'test'",
        ),
        (
            f"def other(): return Data(calibration={R}[:, :, :7], test=({X}, {Y}))".replace(
                "SEED", "1"
            ),
            "the samples of part 'calibration' are",
        ),
    ],
)  # fmt: skip
def test_data_that_is_not_what_was_promised(folder, code, cause):
    error = refused(folder, code, data="other")
    assert cause in error.cause
    assert error.place.startswith(str(folder / "task.py"))


def test_data_that_the_model_cannot_run(folder):
    code = f"def other(): return Data(test=({X}[:, 0], {Y}))"
    error = refused(folder, code, data="other")
    assert "the model cannot run the test data (input (4, 8, 8) float32)" in error.cause


def test_an_output_without_a_row_for_each_sample(folder):
    code = "class Mean(nn.Module):\n    def forward(self, x): return x.mean(0)\n"
    code += "def other(width): return Mean()"
    error = refused(folder, code, factory=CodeRef(str(folder / "task.py"), "other"), weights=None)
    assert "has shape (1, 8, 8) for 64 samples" in error.cause


def test_weights_that_do_not_fit(folder):
    error = refused(folder, args={"width": 8})
    assert "the weights do not load into the network" in error.cause
    assert error.place == str(folder / "teacher.pt")


def test_weights_that_are_none(folder):
    (folder / "teacher.pt").write_text("not weights")
    assert "the weights do not load" in refused(folder).cause


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("def score(p, y): return float('nan')", "metric 'mine' is nan, not a finite number"),
        ("def score(p, y): return float('inf')", "metric 'mine' is inf, not a finite number"),
        ("def score(p, y): raise KeyError('y')", "metric score raised KeyError"),
        ("def score(p, y): return 'good'", "metric score raised ValueError"),
        ("def score(p, y): raise SystemExit('no')", "metric score raised SystemExit: no"),
        ("def score(p): return 1.0", "metric score raised TypeError"),
    ],
)
def test_a_metric_that_gives_no_number(folder, code, cause):
    mine = {"mine": {"file": str(folder / "task.py"), "name": "score", "direction": "max"}}
    assert cause in refused(folder, code, mine).cause


def test_a_network_that_gives_nan_is_caught_on_the_given_model(folder):
    code = "class Bad(Net):\n    def forward(self, x): return super().forward(x) * float('nan')\n"
    code += "def other(width): return Bad(width)"
    mine = {"mine": {"file": str(folder / "task.py"), "name": "score", "direction": "max"}}
    code += "\ndef score(p, y): return p.mean()"
    error = refused(folder, code, mine, factory=CodeRef(str(folder / "task.py"), "other"))
    assert "metric 'mine' is" in error.cause
    assert error.place == "metrics.mine"


def test_code_that_takes_the_process_down(folder):
    code = "def other():\n    import os, signal\n    os.kill(os.getpid(), signal.SIGSEGV)"
    with pytest.raises(UserError) as caught:
        take(folder, code, data="other")
    error = told(caught.value)
    assert "was killed by SIGSEGV" in error.cause
    assert error.place == str(folder / "task.py")


def test_a_file_that_is_not_python(folder):
    with pytest.raises(UserError) as caught:
        take(folder, "def f(:")
    error = told(caught.value)
    assert "SyntaxError" in error.cause
    assert error.place.startswith(f"{folder / 'task.py'}:")


def test_code_that_prints_does_not_disturb(folder):
    subject, _ = take(folder, "print('hello'); import sys; sys.stdout.write('no newline')")
    assert subject.model.trainable


def test_an_onnx_file_is_a_model(folder):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    torch.onnx.export(
        network,
        (torch.ones(2, 1, 8, 8),),
        str(folder / "model.onnx"),
        input_names=["input"],
        dynamic_axes={"input": {0: "n"}},
        dynamo=False,
    )
    subject, facts = take(
        folder, factory=None, args={}, weights=None, onnx=str(folder / "model.onnx")
    )
    assert subject.source.kind == "onnx"
    assert facts["output_shape"] == [3]
    assert facts["epoch_s"] == 0


def test_hashes_of_data_tell_dtype_shape_and_bytes(folder):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    forms = [x, x.T.copy(), x.astype(np.float64), x + 1, x.reshape(6, 1)]
    found = {intake._fingerprint({"test": ({"x": form}, None)}) for form in forms}
    assert len(found) == len(forms)
    assert intake._fingerprint({"test": ({"y": x}, None)}) not in found


@pytest.mark.parametrize(
    "code",
    [
        'import os; os.write(1, b"caf\\xe9\\n"); os.write(2, b"caf\\xe9\\n")',
        'import atexit; atexit.register(print, "autotune-intake: bye")',
        "import io, sys; sys.stdout = io.StringIO()",
        'import subprocess; subprocess.Popen(["sleep", "20"])',
        "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()",
    ],
    ids=["bytes", "atexit", "stdout", "process", "thread"],
)
def test_what_the_task_prints_and_starts_does_not_matter(folder, code, monkeypatch):
    monkeypatch.setattr(intake, "_LEAVE_S", 0.5)
    began = time.monotonic()
    _, facts = take(folder, code)
    assert facts["samples"]["test"] == 96
    assert time.monotonic() - began < 20


def test_a_data_function_that_never_returns(folder):
    code = "def other():\n    import time\n    time.sleep(60)"
    process = intake.start(*request(folder, code, data="other"))
    with pytest.raises(TaskError) as caught:
        intake.finish(process, 0, timeout_s=4)
    assert "took longer than 4 s" in told(caught.value).cause
    assert process.process.poll() is not None
    assert not process.folder.exists()


def test_a_store_that_is_a_file(folder):
    (folder / "store").touch()
    with pytest.raises(MachineError) as caught:
        intake.start(*request(folder))
    assert told(caught.value).place == str(folder / "store")


def test_a_store_that_cannot_be_a_folder(folder):
    (folder / "store").touch()
    model, data, metrics, _ = request(folder)
    with pytest.raises(MachineError) as caught:
        intake.finish(intake.start(model, data, metrics, folder / "store" / "in"), 0)
    assert told(caught.value).place == str(folder / "store" / "in")


def test_the_data_cannot_be_made_again_by_a_worker(folder, tmp_path):
    subject, _ = take(folder)
    empty = str(tmp_path / "empty")
    result = execute.run(subject.data, empty, None, False)
    assert result.fatal
    assert "the data left the store" in result.error


def test_the_model_is_made_again_only_from_the_same_code(folder, tmp_path):
    subject, _ = take(folder)
    empty = str(tmp_path / "empty")
    assert execute.run(subject.source, empty, None, False).ok
    with (folder / "task.py").open("a") as file:
        file.write("MORE = 1\n")
    result = execute.run(subject.source, str(tmp_path / "other"), None, False)
    assert result.fatal
    assert "the model left the store" in result.error


def test_a_stage_that_leaves_the_process_fails_with_its_words(tmp_path):
    stage = Stage("leave", f"{__name__}:leave", "network")
    result = execute.run(stage, str(tmp_path), None, False)
    assert "no licence" in result.error
    assert not result.fatal


def leave(context):
    raise SystemExit("no licence")
