"""What a run did besides its answer: what ended early and why, and where the time went."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autotune.report.words import amount, duration
from autotune.runfolder import RunData
from autotune.runfolder.tables import UNFINISHED

Rows = tuple[tuple[str, str], ...]
"""Labels and their texts."""


_LINES, _CHARACTERS = 8, 600


@dataclass(frozen=True)
class Ended:
    """Trials that did not complete, by reason; ``evidence`` is a traceback where one is kept."""

    outcome: str
    reason: str
    trials: tuple[int, ...]
    evidence: str = ""

    @property
    def brief(self) -> str:
        """The reason as it is read at once: whole, or the beginning of a very long one."""
        lines = self.reason.strip().splitlines()
        text = "\n".join(lines[:_LINES])
        if len(text) > _CHARACTERS:
            text = text[:_CHARACTERS].rsplit(" ", 1)[0]
        return text if text == self.reason.strip() else f"{text} …"


@dataclass(frozen=True)
class StageTime:
    """One stage: how often trials needed it and it ran, the seconds it took and sharing saved."""

    name: str
    needed: int
    executed: int
    seconds: float
    saved_s: float


def ended(run: RunData) -> tuple[Ended, ...]:
    """Whatever did not complete, grouped by outcome and reason, the largest group first."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    evidence: dict[tuple[str, str], str] = {}
    for trial in run.trials:
        if trial.measurement is not None:
            continue
        outcome = trial.outcome
        key = (outcome.word, outcome.reason) if outcome else (UNFINISHED, _IN_FLIGHT)
        groups[key].append(trial.number)
        evidence.setdefault(key, getattr(outcome, "traceback", ""))
    rows = [Ended(*key, tuple(numbers), evidence[key]) for key, numbers in groups.items()]
    return tuple(sorted(rows, key=lambda row: (row.outcome, -len(row.trials), row.reason)))


_IN_FLIGHT = "still running, or in flight when the run was interrupted"


def stage_times(run: RunData) -> tuple[StageTime, ...]:
    """Every stage by the time that it took, longest first."""
    needed: dict[str, list[float]] = defaultdict(list)
    ran: dict[str, list[float]] = defaultdict(list)
    for trial in run.trials:
        for name, seconds in trial.stage_seconds.items():
            needed[name].append(seconds)
            if name in trial.executed:
                ran[name].append(seconds)
    rows = [
        StageTime(n, len(s), len(ran[n]), sum(ran[n]), sum(s) - sum(ran[n]))
        for n, s in needed.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.seconds, row.name)))


def counts(run: RunData) -> Mapping[str, int]:
    """How many trials ended in each way."""
    found: dict[str, int] = {}
    for trial in run.trials:
        word = trial.outcome.word if trial.outcome else UNFINISHED
        found[word] = found.get(word, 0) + 1
    return found


def totals(run: RunData) -> tuple[tuple[str, str], ...]:
    """The run's own account of its time, in words; empty while it runs."""
    summary = run.summary
    rows = [("Ended", _WHY.get(summary.get("why", ""), "not yet"))]
    if "wall_s" in summary:
        rows.append(("Wall time", duration(summary["wall_s"])))
    for label, word in (("Stages", "stages"), ("Trainings", "trainings")):
        executed, needed = summary.get(f"{word}_executed"), summary.get(f"{word}_needed")
        if executed is not None and needed is not None:
            rows.append((label, _share(executed, needed)))
    if "overhead_s_per_trial" in summary:
        rows.append(("Overhead per trial", f"{summary['overhead_s_per_trial'] * 1000:.0f} ms"))
    return tuple(rows)


_WHY = {
    "budget": "the budget of trials was spent",
    "time": "the budget of time was spent",
    "interrupted": "interrupted by the user",
    "failed": "an error of autotune ended it",
    "exhausted": "every point of the space was tried",
}


def _share(executed: int, needed: int) -> str:
    ratio = f", {needed / executed:.1f} times fewer" if executed else ""
    return f"{executed} executed for {needed} needed{ratio}"


def machine(run: RunData) -> tuple[tuple[str, Rows], ...]:
    """The environment record as headed lists: what is plain first, then one list a mapping."""
    record = dict(run.environment)
    plain = {k: v for k, v in record.items() if not isinstance(v, Mapping)}
    plain |= {k: run.spec[k] for k in ("seed", "sampler", "preset") if k in run.spec}
    lists: list[tuple[str, Rows]] = [("Run", (*_dates(run.events), *_rows(plain)))]
    lists += [("Model and data", _rows(subject(run)))]
    lists += [(_title(k), _rows(v)) for k, v in record.items() if isinstance(v, Mapping)]
    return tuple((head, rows) for head, rows in lists if rows)


def subject(run: RunData) -> Mapping[str, Any]:
    """What was found out of the model and the data when the run was opened."""
    return next((e.get("facts", {}) for e in reversed(run.events) if e["event"] == "open"), {})


def test_samples(run: RunData) -> int | None:
    """How many samples a metric is computed from; None where the journal does not say."""
    samples = subject(run).get("samples", {}).get("test")
    return samples if isinstance(samples, int) and samples > 0 else None


def _rows(values: Mapping[str, Any]) -> Rows:
    return tuple((str(name), _text(name, value)) for name, value in values.items())


def _dates(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """When the run was opened for the first time and when it ended, in UTC."""
    return [
        (label, dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC"))
        for label, at in (
            ("started", next((e["at"] for e in events if e["event"] == "open"), None)),
            ("ended", next((e["at"] for e in reversed(events) if e["event"] == "close"), None)),
        )
        if at is not None
    ]


def _title(word: str) -> str:
    return word.replace("_", " ").capitalize()


def _text(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        # A target repeats its machine, which has a list of its own.
        return ", ".join(f"{k} {_text(k, v)}" for k, v in value.items() if k != "machine")
    if isinstance(value, list | tuple):
        return ", ".join(_text("", item) for item in value)
    if isinstance(value, int | float) and str(name).endswith("_bytes"):
        return amount(value, "bytes")
    return str(value)
