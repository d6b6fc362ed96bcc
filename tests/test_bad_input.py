"""Bad input as users type it: exit code 2 with the place; or a reason on the trial and report."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import autotune
from autotune.cli.options import overrides
from autotune.errors import SpecError, TaskError
from autotune.spec import load

TINY = Path(__file__).parent / "tiny"
NOTHING = dict.fromkeys(("name", "seed", "preset", "trials", "time_", "sampler"))


def type_in(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "autotune", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def task(tmp_path):
    """A copy of the tiny task, without weights."""
    for name in ("task.py", "space.yaml"):
        shutil.copy(TINY / name, tmp_path)
    (tmp_path / "teacher.pt").touch()
    return tmp_path


@pytest.fixture
def run(tmp_path):
    """The least that is a run."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "spec.yaml").write_text("name: x\n")
    (folder / "journal.jsonl").touch()
    return tmp_path


@pytest.mark.parametrize("weights", ["x" * 300, "a\0b"])
def test_a_path_that_no_file_can_have(task, weights):
    with pytest.raises(SpecError, match="cannot name a file") as raised:
        load(task / "space.yaml", {"model.weights": weights})
    assert raised.value.place == "--set model.weights"


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_space_file_that_no_file_can_be(task, name):
    with pytest.raises(SpecError, match="cannot be read"):
        load(task / name)


TAKEN = ("trial", "outcome", "reason", "origin", "on_front", "stage_seconds", "baseline")
MEASURED = ("latency_p50_ms", "size_bytes", "memory_peak_bytes", "load_seconds")


@pytest.mark.parametrize("word", [*TAKEN, *MEASURED, "f1_low", "f1_high", "f1_drop"])
def test_a_metric_may_not_take_the_name_of_a_column(task, word):
    space = task / "space.yaml"
    space.write_text(space.read_text().replace("accuracy", word))
    with pytest.raises(SpecError, match="would stand where") as raised:
        load(space)
    assert raised.value.place.endswith(f": metrics.{word}")


def test_every_column_of_a_table_is_taken(task):
    from report.example import example

    from autotune.runfolder import table

    for word in table(example(8)).columns:
        if word != "accuracy":
            with pytest.raises(SpecError, match="a metric called"):
                load(task / "space.yaml", {"metrics": {word: "top1"}, "objectives": None})


def test_an_argument_of_the_factory_is_finite(task):
    with pytest.raises(SpecError, match="usable number"):
        load(task / "space.yaml", {"model.args.width": float("nan")})


def test_set_reads_values_as_the_file_does():
    assert overrides({**NOTHING, "sets": ("space.distill.lr=3e-3",)}) == {"space.distill.lr": 3e-3}
    assert overrides({**NOTHING, "sets": ("name=1:30",)}) == {"name": "1:30"}


@pytest.mark.parametrize("value", [".inf x: [", "1e999", "[" * 2000, "{a: 1, a: 2}", "!!set {a}"])
def test_set_refuses_what_the_file_could_not_say(value):
    with pytest.raises(SpecError) as raised:
        overrides({**NOTHING, "sets": (f"space.distill.lr={value}",)})
    assert raised.value.place == "--set space.distill.lr"


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("gc", "run", "--max-mb", "nan"), "--max-mb"),
        (("gc", "run", "--max-mb", "inf"), "--max-mb"),
        (("report", "run", "--out", "."), "."),
        (("report", "run", "--out", "nowhere/x.html"), "nowhere"),
        (("report", "x" * 300), "xxx"),
        (("init", "digits", "run/spec.yaml/x"), "run/spec.yaml/x"),
        (("init", "digits", "x" * 300), "xxx"),
        (("init", "digits", "/proc/x"), "/proc/x"),
        (("validate", "space.yaml", "--set", "space.distill.lr=.nan"), "space.distill.lr"),
    ],
)
def test_the_command_line_says_what_is_wrong(run, words, place):
    for name in ("task.py", "space.yaml"):
        shutil.copy(TINY / name, run)
    (run / "teacher.pt").touch()
    done = type_in(run, *words)
    assert done.returncode == 2, done.stderr
    assert place in done.stderr
    assert "Traceback" not in done.stderr


# ---- what a task does wrong: told before the first trial or on the trial, through whole runs ---

SMALL = """
model: {{factory: task.py:{factory}, args: {{width: 16}}{own}}}
data: task.py:{data}
targets: {{local: {{lane_cores: 1}}}}
budget: {{trials: {trials}, time: 200s}}
objectives: {{accuracy: max, latency_p50: min}}
space:
  batch: 1
  threads: 1
  student: {{width: {width}}}
  distill: {{epochs: 2, lr: {lr}}}
  precision: {precision}
  backend: {{torch: {{freeze: false, channels_last: false}}, onnxruntime: {{level: all}}}}
"""
OTHER = """

def other():
    found = data()
    {}
    return found
"""
OWN = """

def fit(network, lesson):
    {}
"""
FFT = """

class Spectral(Net):
    def forward(self, x):
        return super().forward(torch.fft.fft2(x).abs() / 8)


def spectral(width=16):
    return Spectral(width)
"""


def written(tiny, folder, code, more="", **words):
    """The tiny task with code added, and a small space for it; the space's path."""
    plain = {"factory": "build_model", "own": "", "data": "data", "trials": 4, "width": "[16, 8]"}
    told = {**plain, "lr": "3e-3", "precision": "fp32", **words}
    (folder / "task.py").write_text((tiny / "task.py").read_text() + code)
    (folder / "space.yaml").write_text(SMALL.format(**told) + more)
    return folder / "space.yaml"


def failures(run):
    """The trials that failed; that their reasons stand in the table and the report is checked."""
    found = [t for t in run.data.trials if t.outcome.word == "failed"]
    report = (run.folder / "report.html").read_text()
    payload = re.search(r'id="run-data">(.*?)</script>', report, re.DOTALL)
    told = {t["n"]: t["reason"] for t in json.loads(payload[1])["trials"]}
    table = run.trials.set_index("trial")["reason"]
    for trial in found:
        assert told[trial.number] == table[trial.number] == trial.outcome.reason != ""
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_training_that_diverges_and_an_export_that_fails_are_the_trials_reasons(tiny, tmp_path):
    """One run in which every trial but two fails, each with a reason of its own."""
    space = written(tiny, tmp_path, FFT, factory="spectral", trials=6, lr="[3e-3, 1e9]")
    run = autotune.run(space, out=tmp_path / "run")
    assert len(run.data.trials) == 6
    failed = failures(run)
    assert len(failed) == 4
    diverged = [t for t in failed if t.configuration.get("distill.lr") == 1e9]
    assert len(diverged) == 2
    for trial in diverged:
        assert trial.outcome.stage == "distill"
        assert re.fullmatch(
            r"training diverged: the loss is (nan|inf) in epoch [12] of 2 \(lr 1e\+09\)",
            trial.outcome.error,
        )
    line = (tmp_path / "task.py").read_text().splitlines().index(FFT.splitlines()[4]) + 1
    for trial in (t for t in failed if t not in diverged):
        assert trial.configuration["backend"] == "onnxruntime"
        said = f"the ONNX exporter failed: fft_fft2 at {tmp_path / 'task.py'}:{line}: "
        assert (trial.outcome.stage, trial.outcome.error[: len(said)]) == ("export", said)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_the_users_own_training_teaches_and_its_errors_are_the_trials_reasons(tiny, tmp_path):
    """It is rehearsed with a rate of 1e-4; only at 0.5 does it leave what is no network."""
    code = OWN.format(
        "nn.init.constant_(network.head.bias, float('nan') if lesson.lr == 0.5 else 9)"
    )
    space = written(tiny, tmp_path, code, own=", train: task.py:fit", lr="[3e-3, 0.5]", trials=6)
    run = autotune.run(space, out=tmp_path / "run")
    failed = failures(run)
    assert {t.configuration.get("distill.lr") for t in failed} == {0.5}
    assert len(failed) == 2
    begins = len((tiny / "task.py").read_text().splitlines()) + 3
    for trial in failed:
        said = f"{tmp_path / 'task.py'}:{begins}: the training fit() left NaN or infinite values"
        assert trial.outcome.error == f"{said} in head.bias"
    taught = [t for t in run.data.trials if t.configuration.get("distill.lr") == 3e-3]
    assert {t.outcome.word for t in taught} == {"completed"}


@pytest.mark.parametrize(
    ("body", "words", "line"),
    [
        ("raise RuntimeError('no data')", "fit() raised RuntimeError: no data", 4),
        ("return nn.Linear(2, 3)", "fit() returned another network: conv1.weight was (16, 1", 3),
        ("network.head.bias.data[:] = float('nan')", "NaN or infinite values in head.bias", 3),
    ],
)
@pytest.mark.usefixtures("local_ray")
def test_the_users_own_training_is_refused_before_the_first_trial(
    tiny, tmp_path, body, words, line
):
    space = written(tiny, tmp_path, OWN.format(body), own=", train: task.py:fit")
    begins = len((tiny / "task.py").read_text().splitlines())
    with pytest.raises(TaskError) as caught:
        autotune.run(space, out=tmp_path / "run")
    assert words in caught.value.cause
    assert caught.value.place == f"{tmp_path / 'task.py'}:{begins + line}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("found.train[1][7] = 3", "IndexError: Target 3 is out of bounds"),
        ("found.train[1][7] = -1", "IndexError: Target -1 is out of bounds"),
        ("found.test[1][7] = 3", "top1 needs labels from 0 to 2, not 0 to 3"),
        ("found.calibration = found.calibration[:20]", "asks for 31 calibration samples"),
    ],
)
@pytest.mark.usefixtures("local_ray")
def test_data_that_does_not_fit_is_refused_before_the_first_trial(tiny, tmp_path, change, words):
    ptq = "  ptq: {samples: 31}\n"
    space = written(
        tiny, tmp_path, OTHER.format(change), ptq, data="other", precision="[fp32, int8]"
    )
    with pytest.raises(TaskError) as caught:
        autotune.run(space, out=tmp_path / "run")
    assert words in caught.value.cause
    assert caught.value.place
    assert caught.value.remedy


@pytest.mark.usefixtures("local_ray")
def test_a_factory_without_the_argument_that_is_searched_is_refused(tiny, tmp_path):
    code = "\n\ndef fixed():\n    return Net(16)\n"
    space = written(tiny, tmp_path, code, factory="fixed")
    with pytest.raises(TaskError, match="unexpected keyword argument 'width'") as caught:
        autotune.run(space, out=tmp_path / "run")
    begins = len((tiny / "task.py").read_text().splitlines()) + 3
    assert caught.value.place == f"{tmp_path / 'task.py'}:{begins}"
    assert "model.args" in caught.value.remedy


def test_a_width_that_the_model_is_not_given_cannot_be_searched(task):
    with pytest.raises(SpecError, match="unknown key 'width'") as caught:
        load(task / "space.yaml", {"model.args": {}})
    assert caught.value.place.endswith(": space.student.width")
