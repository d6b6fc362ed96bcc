"""Bad input as users type it: exit code 2 with the place, never a traceback."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.cli.options import overrides
from autotune.errors import SpecError
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
