"""The profiles that a run holds, and whose it should: the pick's, beside its baseline's."""

from __future__ import annotations

from collections.abc import Mapping

from autotune.profile import Profile
from autotune.runfolder.run import RunData
from autotune.runfolder.tables import front
from autotune.trial import Trial

EVENT = "profile"


def profiles(run: RunData) -> Mapping[int, Profile]:
    """The last profile of each trial that has one, by its number.

    One that is older than the trial's outcome is of another machine or other versions.
    """
    found: dict[int, Profile] = {}
    for event in run.events:
        if event["event"] == "outcome":
            found.pop(event["number"], None)
        elif event["event"] == EVENT and "profile" in event:
            found[event["number"]] = Profile.from_record(event["profile"])
    return found


def failures(run: RunData) -> Mapping[int, str]:
    """Why the last profile of a trial could not be taken, by its number."""
    last = {event["number"]: event for event in run.events if event["event"] == EVENT}
    return {number: event["error"] for number, event in last.items() if "error" in event}


def compared(run: RunData) -> tuple[Trial, ...]:
    """The trial that the run answers with, after its baseline where it has another one.

    Where nothing is picked that is the fastest of the front; empty where no trial completed.
    """
    picked = (run.pick or {}).get("trial")
    best = front(run)
    done = [trial for trial in run.trials if trial.measurement is not None]
    shown = [trial for trial in done if trial.number == picked]
    shown = shown or sorted((t for t in done if t.number in best), key=_p50)[:1]
    return tuple(one for trial in shown for one in beside(run, trial))


def beside(run: RunData, trial: Trial) -> tuple[Trial, ...]:
    """The trial after its baseline, or alone where it has none or is one."""
    given = baseline(run, trial)
    return (trial,) if given is None or given.number == trial.number else (given, trial)


def baseline(run: RunData, trial: Trial) -> Trial | None:
    """The measured baseline of the same batch on the same target as ``trial``, if there is one."""
    same = ("batch", "target")
    return next(
        (
            t
            for t in run.trials
            if t.origin == "baseline"
            and t.measurement is not None
            and all(t.configuration.get(k) == trial.configuration.get(k) for k in same)
        ),
        None,
    )


def _p50(trial: Trial) -> float:
    found = trial.measurement.values.get("latency_p50_ms") if trial.measurement else None
    return float("inf") if found is None else found.value
