"""A run on disk, made by hand: what it decides, ships, keeps and refuses."""

import math
from pathlib import Path

import pytest

from autotune import api
from autotune.cli import show
from autotune.errors import MachineError, RunFolderError, UserError
from autotune.runfolder import JOURNAL, SPEC, encode_outcome
from autotune.search import folders
from autotune.space import Configuration
from autotune.spec import dump
from autotune.store.artifacts import Store
from autotune.store.journal import Journal
from autotune.trial import Completed, Estimate, Failed, Measurement

ASKED = {
    "name": "small",
    "metrics": {"accuracy": {"metric": "top1", "direction": "max"}},
    "objectives": {"accuracy": "max", "latency_p50": "min"},
    "slo": [],
}
SOURCE, DATA, FAST, SLOW, SAMPLES, UNUSED = (letter * 32 for letter in "abcdef")


def done(p50, artifact):
    values = {
        "accuracy": Estimate(0.9, 0.88, 0.92),
        "latency_p50_ms": Estimate(p50, p50, p50),
        "latency_p99_ms": Estimate(p50, p50, p50),
    }
    return Completed(Measurement(values, {"artifact": artifact, "runtime": {}}, SAMPLES))


def write(folder, *outcomes, slo=(), why="budget"):
    """A run whose first trial is the baseline, with its artifacts in the store."""
    folder.mkdir(parents=True)
    (folder / SPEC).write_text(dump({**ASKED, "slo": list(slo)}))
    store = Store(folder / "store")
    for key in (SOURCE, DATA, FAST, SLOW, SAMPLES, UNUSED):
        with store.writing(key) as made:
            (made / "network.pt").write_text(key)
            store.commit(key, made, stage="train", seconds=1.0, facts={})
    with Journal(folder / JOURNAL) as journal:
        journal.append({"event": "open", "at": 0.0, "artifacts": [SOURCE, DATA]})
        for number, outcome in enumerate(outcomes):
            origin = "sampler" if number else "baseline"
            settings = Configuration((("batch", 1), ("student.width", 16 - number)))
            trial = {"number": number, "origin": origin, "settings": dict(settings)}
            journal.append({"event": "trial", **trial})
            ended = {"number": number, "outcome": encode_outcome(outcome)}
            journal.append({"event": "outcome", **ended})
        journal.append({"event": "close", "at": 1.0, "why": why, "summary": {}})
    return api.Run(folder), store


def finish(run, store):
    with Journal(run.folder / JOURNAL) as journal:
        api.finish(run, store, journal)


@pytest.fixture
def two(tmp_path):
    slo = ("minimize latency_p50",)
    return write(tmp_path / "run", done(2.0, SLOW), done(1.0, FAST), slo=slo)


# ---- gc ------------------------------------------------------------------------------------------


def test_gc_keeps_the_front_the_pick_the_model_and_the_data(two):
    run, store = two
    with Journal(run.folder / JOURNAL) as journal:
        journal.append({"event": "pick", "trial": 0, "checks": [], "message": ""})
    assert run.shrink(0) > 0
    assert set(store.keys()) == {SOURCE, DATA, FAST, SLOW, SAMPLES}


def test_gc_is_refused_while_the_run_is_written(two):
    run, store = two
    with Journal(run.folder / JOURNAL), pytest.raises(RunFolderError, match="another autotune"):
        run.shrink(0)
    assert UNUSED in set(store.keys())


def test_gc_makes_no_run_where_there_is_none(tmp_path):
    with pytest.raises(RunFolderError):
        api.Run(tmp_path).shrink(0)
    assert not list(tmp_path.iterdir())


# ---- the end of a run ----------------------------------------------------------------------------


def test_a_pick_is_shipped(two):
    run, store = two
    finish(run, store)
    assert (run.folder / "best" / "network.pt").read_text() == FAST
    assert show.exit_code(run) == 0


@pytest.mark.parametrize("slo", [(), ("latency_p99 <= 1ms",)])
def test_a_run_of_failures_exits_with_3_and_says_why(tmp_path, slo, capsys):
    failures = (Failed("train", "no such key", ""),) * 2
    run, store = write(tmp_path / "run", *failures, Failed("export", "odd", ""), slo=slo)
    finish(run, store)
    show.result(run, quiet=True)
    assert show.exit_code(run) == 3
    told = capsys.readouterr().err
    assert "3 of 3 trials failed" in told
    assert "2 of them: " in told
    assert "no such key" in told


def test_an_interruption_exits_with_130(tmp_path):
    run, store = write(tmp_path / "run", Failed("train", "no", ""), why="interrupted")
    finish(run, store)
    assert show.exit_code(run) == 130


def test_a_best_that_fits_no_more_is_removed(tmp_path):
    run, store = write(tmp_path / "run", done(2.0, SLOW), slo=("latency_p99 <= 1ms",))
    (run.folder / "best").mkdir()
    finish(run, store)
    assert not (run.folder / "best").exists()


def test_a_best_of_another_trial_is_removed_where_the_artifact_is_gone(two, capsys):
    run, store = two
    (run.folder / "best").mkdir()
    (run.folder / "best" / "configuration.json").write_text('{"trial": 0}')
    store.collect(0)
    finish(run, store)
    assert not (run.folder / "best").exists()
    show.result(run, quiet=True)
    assert "no longer in the store" in capsys.readouterr().err


def test_what_was_shipped_stays_where_the_artifact_is_gone(two, capsys):
    run, store = two
    finish(run, store)
    store.collect(0)
    finish(run, store)
    assert (run.folder / "best" / "network.pt").read_text() == FAST
    show.result(run, quiet=True)
    assert "no longer" not in capsys.readouterr().err


def test_a_failure_to_ship_costs_nothing_else(two, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "best")

    run, store = two
    monkeypatch.setattr(api.deploy, "ship", refuse)
    with pytest.raises(PermissionError):
        finish(run, store)
    assert run.data.pick["trial"] == 1
    assert {"report.html", "trials.csv"} <= {path.name for path in run.folder.iterdir()}


# ---- what is asked in Python ---------------------------------------------------------------------


def test_a_run_is_named_by_a_string_too(two):
    run, _ = two
    assert api.Run(str(run.folder)) == run
    assert len(api.Run(str(run.folder)).trials) == 2


@pytest.mark.parametrize("given", [None, 3, ["space.yaml"]])
def test_a_run_of_nothing_is_refused(given):
    with pytest.raises(TypeError, match="the path of a space file, not"):
        api.run(given)


def test_a_limit_is_text(two):
    with pytest.raises(TypeError, match=r"a limit is text such as .* not 3"):
        two[0].pick(3)


# ---- places that no file can have ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["nowhere/x.html", ".", "x" * 300, "a\0b"])
def test_a_report_where_none_can_be(two, tmp_path, name):
    with pytest.raises(UserError) as raised:
        two[0].report(tmp_path / name)
    assert raised.value.place


@pytest.fixture
def task(tiny, tmp_path):
    return Path(tiny) / "space.yaml", tmp_path / "run"


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "objectives: 3", "a: &a [*a]", "slo: x"])
def test_a_run_folder_whose_spec_is_damaged(task, text):
    space, folder = task
    folder.mkdir()
    (folder / SPEC).write_text(text)
    with Journal(folder / JOURNAL) as journal:
        journal.append({"event": "open", "at": 0.0})
    with pytest.raises(RunFolderError) as raised:
        api.run(space, out=folder)
    assert raised.value.place == str(folder / SPEC)
    assert raised.value.remedy


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "file/run"])
def test_a_run_folder_that_cannot_be(task, name):
    space, folder = task
    (folder.parent / "file").touch()
    with pytest.raises(MachineError) as raised:
        api.run(space, out=folder.parent / name)
    assert raised.value.place


def test_a_refused_second_run_leaves_the_spec_alone(task):
    space, folder = task
    folder.mkdir()
    spec = api.load(space)
    (folder / SPEC).write_text(dump(spec.resolved))
    before = (folder / SPEC).read_bytes()
    with Journal(folder / JOURNAL), pytest.raises(RunFolderError, match="another autotune"):
        api.run(space, out=folder, overrides={"budget.trials": 99})
    assert (folder / SPEC).read_bytes() == before
    assert not (folder / folders.ENVIRONMENT).exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400])
def test_a_number_given_in_python_is_finite(task, value):
    with pytest.raises(UserError, match="usable number") as raised:
        api.run(task[0], overrides={"space.distill.lr": value})
    assert raised.value.place == "--set space.distill.lr"
