"""When a run's trials are profiled, and when they cannot be."""

import dataclasses
import time

import pytest
from report.example import example
from report.test_html import picked
from runfolder.test_profiles import PROFILE, profile, told

from autotune import hardware
from autotune.errors import RunFolderError
from autotune.hardware import gpus
from autotune.runfolder import JOURNAL, assemble
from autotune.search import profiles
from autotune.space import Configuration
from autotune.store.artifacts import Store
from autotune.store.journal import Journal, read
from autotune.target import Gpu, Target
from autotune.trial import Completed


def closed(budget, wall, ago):
    close = {"event": "close", "at": time.time() - ago, "why": "budget"}
    close["summary"] = {"budget_s": budget, "wall_s": wall}
    return assemble(example().folder, {}, [close])


def here(run):
    """The run as if it had been measured on this machine, its artifacts gone."""
    machine = dataclasses.asdict(hardware.machine())
    machine["flags"] = list(machine["flags"])
    targets = {"local": {"lane_cores": 1, "machine": machine}}
    opened = {"event": "open", "at": 0.0, "artifacts": ["a" * 32, "b" * 32]}
    return dataclasses.replace(
        run,
        environment={**run.environment, "targets": targets},
        events=(*run.events, opened),
        trials=tuple(stored(trial) for trial in run.trials),
    )


def stored(trial):
    if trial.measurement is None:
        return trial
    facts = {**trial.measurement.facts, "artifact": "c" * 32}
    measurement = dataclasses.replace(trial.measurement, facts=facts)
    return dataclasses.replace(trial, outcome=Completed(measurement))


def test_what_is_left_is_the_budget_without_what_was_used_and_has_passed_since():
    assert profiles.left_s(closed(60.0, 50.0, 4.0)) == pytest.approx(6, abs=1)
    assert profiles.left_s(closed(60.0, 50.0, 40.0)) < 0
    assert profiles.left_s(closed(None, 50.0, 4.0)) == float("inf")


def test_a_search_keeps_back_little_for_it():
    assert profiles.reserve_s(None) == profiles.reserve_s(600.0) == profiles.MOST_S
    assert profiles.reserve_s(50.0) == pytest.approx(1.0)


def test_without_time_nothing_is_begun(tmp_path):
    with Journal(tmp_path / JOURNAL) as journal:
        run = here(picked(example()))
        assert not profiles.complete(run, Store(tmp_path / "store"), journal, lambda: 1.0)
    assert read(tmp_path / JOURNAL) == []


def test_why_a_trial_could_not_be_profiled_is_written_down(tmp_path):
    run = here(picked(example()))
    with Journal(tmp_path / JOURNAL) as journal:
        assert profiles.complete(run, Store(tmp_path / "store"), journal, lambda: 60.0)
    told = read(tmp_path / JOURNAL)
    assert [event["number"] for event in told] == [t.number for t in profiles.wanted(run, None)]
    assert all("no longer in the store" in event["error"] for event in told)


def test_nobody_waits_for_a_lane_to_profile_what_was_not_asked_for(tmp_path):
    run = here(picked(example()))
    store = Store(tmp_path / "store")
    for key in ("b" * 32, "c" * 32):
        with store.writing(key) as out:
            store.commit(key, out, stage="made", seconds=0.0, facts={})
    lane = Target("other", 1, 1, None, hardware.machine())
    with hardware.lane(lane), Journal(tmp_path / JOURNAL) as journal:
        assert profiles.complete(run, store, journal, lambda: 60.0)
    told = read(tmp_path / JOURNAL)
    assert {event["error"].partition(";")[0] for event in told} == {
        "another run measures on its lane"
    }


def test_what_the_run_holds_is_not_taken_again():
    run = told(profile(0), profile(7))
    trials = [run.trials[0], run.trials[7]]
    assert profiles.held(run, trials) == {0: PROFILE, 7: PROFILE}
    assert profiles.held(run, [*trials, run.trials[8]]) == {}


def test_what_cannot_be_profiled_is_told(tmp_path):
    run, store = picked(example()), Store(tmp_path)
    with pytest.raises(RunFolderError, match="there is no trial 4711"):
        profiles.wanted(run, 4711)
    with pytest.raises(RunFolderError, match="no trial has completed"):
        profiles.wanted(assemble(run.folder, run.spec, []), None)
    done = next(t for t in run.trials if t.measurement)
    with pytest.raises(RunFolderError, match="measured on another machine"):
        profiles.take(run, done, store)
    failed = next(t for t in run.trials if not t.measurement)
    with pytest.raises(RunFolderError, match=f"trial {failed.number} did not complete"):
        profiles.take(here(run), failed, store)


def test_a_trial_of_a_gpu_is_profiled_on_such_a_gpu_alone(tmp_path, monkeypatch):
    ada = Gpu(0, "NVIDIA L4", 24 * 2**30, "8.9", "580.10")
    run = here(picked(example()))
    run.environment["targets"]["local"]["gpu"] = dataclasses.asdict(ada)
    done = next(t for t in run.trials if t.measurement)
    settings = {**done.configuration, "device": "cuda"}
    done = dataclasses.replace(done, configuration=Configuration(tuple(sorted(settings.items()))))
    found = gpus.Accelerators((), "this machine has no NVIDIA driver", "install it")
    monkeypatch.setattr(hardware, "accelerators", lambda: found)
    with pytest.raises(RunFolderError, match="NVIDIA L4: this machine has no NVIDIA driver"):
        profiles.take(run, done, Store(tmp_path))
    other = gpus.Accelerators((dataclasses.replace(ada, name="NVIDIA T4"),))
    monkeypatch.setattr(hardware, "accelerators", lambda: other)
    with pytest.raises(RunFolderError, match="with NVIDIA L4: this one has NVIDIA T4"):
        profiles.take(run, done, Store(tmp_path))
    monkeypatch.setattr(hardware, "accelerators", lambda: gpus.Accelerators((ada,)))
    with pytest.raises(RunFolderError, match="no longer in the store"):  # all else is there
        profiles.take(run, done, Store(tmp_path))
