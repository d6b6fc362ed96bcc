"""Profiles of a run's trials: taken once, written to its journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autotune import hardware
from autotune.engine import profiling
from autotune.engine.plan import runtime
from autotune.errors import AutotuneError, RunFolderError, StageError, UserError
from autotune.hardware import gpus
from autotune.profile import Profile
from autotune.runfolder import RunData
from autotune.runfolder.profiles import EVENT, beside, compared, profiles
from autotune.store.artifacts import Store
from autotune.store.journal import Journal
from autotune.target import Gpu, Target
from autotune.trial import Trial

SHARE = 0.02
MOST_S = 4.0
"""A search keeps this share of its time budget, and at most so many seconds, for profiles."""
LEAST_S = 1.5
"""With less time left no profile is begun."""
LONGEST_S = 20.0
"""No profile that nobody asked for takes longer."""


def reserve_s(budget_s: float | None) -> float:
    """The seconds that a search keeps back for its profiles."""
    return MOST_S if budget_s is None else min(MOST_S, SHARE * budget_s)


def left_s(run: RunData) -> float:
    """What is left of the time budget after the run's last session; infinite without one."""
    budget = run.summary.get("budget_s")
    closed = next((e["at"] for e in reversed(run.events) if e["event"] == "close"), 0.0)
    if budget is None:
        return float("inf")
    return float(budget) - float(run.summary.get("wall_s", 0.0)) - (time.time() - closed)


def complete(run: RunData, store: Store, journal: Journal, left: Callable[[], float]) -> bool:
    """Profile the run's answer and its baseline, as far as the time goes; whether anything was.

    Why one could not be profiled is written down in its place.
    """
    known, tried = profiles(run), False
    for trial in compared(run):
        seconds = left()
        if trial.number in known or seconds < LEAST_S:
            continue
        tried = True
        try:
            profile = take(run, trial, store, min(seconds, LONGEST_S), _not_waiting)
        except AutotuneError as error:
            _write(journal, trial, {"error": str(error)})
        else:
            _write(journal, trial, {"profile": profile.record()})
    return tried


def _not_waiting(whom: str) -> None:
    """Give up a profile that nobody asked for where another run holds the lane."""
    if whom:
        raise StageError("another run measures on its lane; `autotune profile` takes it later")


def wanted(run: RunData, number: int | None) -> tuple[Trial, ...]:
    """The trial of that number, or the run's answer; after its baseline.

    Raises:
        RunFolderError: There is no such trial, or none has completed.
    """
    if number is None:
        found = compared(run)
    else:
        found = tuple(one for t in run.trials if t.number == number for one in beside(run, t))
    if not found:
        what = "no trial has completed" if number is None else f"there is no trial {number}"
        remedy = "`trials.csv` in the run folder lists the trials"
        raise RunFolderError(what, place=str(run.folder), remedy=remedy)
    return found


def held(run: RunData, trials: Sequence[Trial]) -> dict[int, Profile]:
    """The profiles of these trials, by number, where the run holds them all; else nothing."""
    known = profiles(run)
    numbers = [trial.number for trial in trials]
    return {n: known[n] for n in numbers} if set(numbers) <= set(known) else {}


def ensure(
    run: RunData,
    trials: Sequence[Trial],
    store: Store,
    journal: Journal,
    tell: Callable[[str], None],
) -> dict[int, Profile]:
    """The profiles of these trials, by number: those that the run holds, the others taken now.

    ``tell`` is told who a lane is waited for, and "" when that is over.

    Raises:
        UserError: As ``take``; or profiling failed, and why.
    """
    found = dict(profiles(run))
    for trial in trials:
        if trial.number not in found:
            try:
                found[trial.number] = take(run, trial, store, tell=tell)
            except StageError as error:
                raise UserError(str(error), place=f"trial {trial.number}") from error
            _write(journal, trial, {"profile": found[trial.number].record()})
    return {trial.number: found[trial.number] for trial in trials}


def _write(journal: Journal, trial: Trial, told: Mapping[str, Any]) -> None:
    journal.append({"event": EVENT, "number": trial.number, "at": time.time(), **told})


def take(
    run: RunData,
    trial: Trial,
    store: Store,
    timeout_s: float = profiling.TIMEOUT_S,
    tell: Callable[[str], None] = lambda _: None,
) -> Profile:
    """The profile of a completed trial, on this machine.

    Raises:
        UserError: The trial did not complete, its backend has no profiler, its artifact is gone,
            or it was measured on another machine.
        StageError: The profiling process crashed, ran out of time, or cannot do it.
    """
    if trial.measurement is None:
        raise RunFolderError(
            f"trial {trial.number} did not complete: there is nothing to profile",
            place=str(run.folder),
            remedy="name a completed one: `trials.csv` in the run folder lists them",
        )
    configuration, target = trial.configuration, _target(run, trial)
    opened = [event for event in run.events if event["event"] == "open"]
    work = profiling.Work(
        backend=str(configuration["backend"]),
        settings=runtime(configuration, target),
        batch=int(configuration["batch"]),
        threads=int(configuration["threads"]),
        artifact=str(trial.measurement.facts["artifact"]),
        data=str(opened[-1]["artifacts"][1]),
    )
    return profiling.take(work, target, store, timeout_s, tell)


def _target(run: RunData, trial: Trial) -> Target:
    """The trial's target, which must be this machine.

    Raises:
        RunFolderError: It is another one.
    """
    targets = run.environment["targets"]
    name = str(trial.configuration.get("target", next(iter(targets))))
    told, here = targets[name], hardware.machine()
    if told["machine"]["cpu"] != here.cpu or list(told["machine"]["flags"]) != list(here.flags):
        raise RunFolderError(
            f"trial {trial.number} was measured on another machine ({told['machine']['cpu']}); "
            f"this one is {here.cpu}",
            place=str(run.folder),
            remedy="profile it there",
        )
    gpu = _gpu(run, trial, told["gpu"]) if told.get("gpu") is not None else None
    return Target(name, int(told["lane_cores"]), 1, None, here, gpu)


def _gpu(run: RunData, trial: Trial, told: Mapping[str, Any]) -> Gpu:
    """The GPU that was told of.

    Raises:
        RunFolderError: It is not here.
    """
    found = hardware.accelerators()
    gpu = gpus.alike(found.gpus, told)
    if gpu is None:
        here = ", ".join(one.name for one in found.gpus)
        why = f"this one has {here}" if here else found.missing
        raise RunFolderError(
            f"trial {trial.number} was measured on a machine with {told['name']}: {why}",
            place=str(run.folder),
            remedy="profile it there",
        )
    return gpu
