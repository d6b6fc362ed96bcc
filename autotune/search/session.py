"""One session of a run: everything between an open journal and a spent budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGINT, signal
from typing import Any

from autotune.engine import intake
from autotune.engine.cluster import cluster, machines
from autotune.engine.graph import Graph
from autotune.engine.plan import Subject, needs
from autotune.errors import RunFolderError, UserError
from autotune.measure.blocks import clock_overhead_ns
from autotune.measure.clock import fine_enough
from autotune.runfolder import RunData
from autotune.search.account import Ran
from autotune.search.driver import Driver, Observer, counts
from autotune.search.environment import environment, same_measuring
from autotune.search.estimate import Estimate, estimate
from autotune.spec import Spec, collapsed, on_machines, unable
from autotune.store.artifacts import Store
from autotune.store.journal import Journal
from autotune.task import CodeRef
from autotune.training.usercode import fingerprint
from autotune.training.usercode import sources as code_of
from autotune.trial import Trial


@dataclass(frozen=True)
class Opening:
    """What is known before the first trial of a session.

    Attributes:
        spec: What is asked.
        folder: The run folder.
        size: Configurations that can run; None where the space is continuous or huge.
        removed: Combinations that cannot, counted by reason.
        drawn: Of how many random ones, where the size is None; 0 where ``removed`` is all.
        collapsed: Searched values that no configuration can have, one sentence each.
        estimate: How long it will probably take.
        finished: Trials that earlier sessions ended.
    """

    spec: Spec
    folder: Path
    size: int | None
    removed: Mapping[str, int]
    collapsed: tuple[str, ...]
    estimate: Estimate
    finished: int
    drawn: int = 0


DRAWN = 2000
"""So many points are drawn to tell what cannot run of a space too large to be counted."""


@dataclass(frozen=True)
class Session:
    """A session about to begin; ``address`` names an existing cluster, None starts a local one."""

    spec: Spec
    folder: Path
    store: Path
    address: str | None
    opening: Callable[[Opening], None]
    observe: Observer


def complete(spec: Spec, earlier: RunData) -> bool:
    """Whether an earlier session has spent the budget on the same code, so that nothing is left."""
    finished = sum(counts(trial) for trial in earlier.trials)
    why = earlier.summary.get("why")
    spent = finished >= spec.budget.trials and why not in ("", "interrupted", "failed")
    spent = spent or why == "exhausted"
    asked = spec.budget.seconds
    late = asked is not None and asked <= float(earlier.summary.get("budget_s") or 0.0)
    late = late and why == "time"
    here = same_measuring(earlier.environment, environment(spec))
    return here and (spent or late) and _recorded(earlier, "files") == _files(spec)


def hold(session: Session, journal: Journal, earlier: RunData) -> str:
    """Search until the budget is spent; why it ended.

    Raises:
        UserError: What the user's code, the machine or the run folder has wrong.
    """
    with _interruptible() as stopped:
        return _hold(session, journal, earlier, stopped)


def _hold(session: Session, journal: Journal, earlier: RunData, stopped: Callable[[], bool]) -> str:
    began = time.monotonic()
    spec = session.spec
    if session.address is None:
        fine_enough(clock_overhead_ns())
    process = intake.start(
        spec.model, spec.data, sources(spec), session.store, needs(spec.space, spec.model)
    )
    try:
        with cluster(spec.targets, session.address, session.store) as where:
            if session.address is not None:
                spec = on_machines(spec, machines(spec.targets))
            try:
                subject, facts = intake.finish(process, spec.seed)
            except UserError:
                if not stopped():
                    raise
            if stopped():
                closed = {"event": "close", "at": time.time(), "why": "interrupted"}
                journal.append({**closed, "summary": dict(earlier.summary)})
                return "interrupted"
            _same_subject(earlier, subject, session.folder)
            _open(session, spec, journal, subject, facts, earlier)
            graph = Graph(Store(session.store), where, {t.name: t for t in spec.targets})
            driver = Driver(
                spec,
                subject,
                graph,
                journal,
                _valid(earlier, environment(spec)),
                ran=_ran(earlier),
                used_s=used_s(earlier),
                began=began,
                stopped=stopped,
                log=_logger(session.folder / "log.txt"),
            )
            return _drive(driver, journal, session.observe)
    finally:
        intake.end(process)


def ahead(
    spec: Spec, folder: Path, subject: Subject, facts: Mapping[str, Any], finished: int
) -> Opening:
    """What is known before the first trial."""
    grid = spec.space.grid()
    size = None if grid is None else len(grid.points)
    drawn = DRAWN if grid is None else 0
    removed = unable(spec.space, drawn) if grid is None else dict(grid.removed)
    dead = () if grid is None else collapsed(spec.space, grid)
    expected = estimate(spec, subject, facts)
    return Opening(spec, folder, size, removed, dead, expected, finished, drawn)


def _valid(earlier: RunData, now: Mapping[str, Any]) -> tuple[Trial, ...]:
    """The trials as far as they hold here: on another machine all are to be measured again.

    Their artifacts stay; only what was measured has the machine and the versions in its key.
    """
    if not earlier.trials or same_measuring(earlier.environment, now):
        return earlier.trials
    return tuple(replace(t, outcome=None, executed=()) for t in earlier.trials)


def _ran(earlier: RunData) -> list[Ran]:
    """The stages that earlier sessions ran."""
    stages = (event for event in earlier.events if event["event"] == "stage")
    return [(event["key"], bool(event.get("trains"))) for event in stages]


def used_s(earlier: RunData) -> float:
    """The time that earlier sessions took, those that were killed included."""
    total, opened, last = 0.0, None, 0.0
    for event in earlier.events:
        if event["event"] == "open":
            total += last - opened if opened is not None else 0.0
            opened = event["at"]
        last = event.get("at", last)
    return total + (last - opened if opened is not None else 0.0)


def sources(spec: Spec) -> dict[str, Any]:
    """Where each metric comes from, as the engine wants it."""
    found: dict[str, Any] = {}
    for word, metric in spec.metrics.items():
        if isinstance(metric.name, CodeRef):
            file, name = metric.name.file, metric.name.name
            code = fingerprint(code_of(Path(file)))
            found[word] = {"file": file, "name": name, "direction": metric.direction, "code": code}
        else:
            found[word] = {"plugin": metric.name}
    return found


def _files(spec: Spec) -> str:
    """A hash over every file of the user's that a run reads: model, data, metrics, weights."""
    refs = (spec.model.factory, spec.model.train)
    files = [spec.data.file, *(ref.file for ref in refs if ref)]
    files += [m.name.file for m in spec.metrics.values() if isinstance(m.name, CodeRef)]
    found = {path for file in files for path in code_of(Path(file))}
    found |= {Path(file) for file in (spec.model.weights, spec.model.onnx) if file}
    return fingerprint(tuple(sorted(found)))


def _open(
    session: Session,
    spec: Spec,
    journal: Journal,
    subject: Subject,
    facts: Mapping[str, Any],
    earlier: RunData,
) -> None:
    finished = sum(trial.outcome is not None for trial in earlier.trials)
    opening = ahead(spec, session.folder, subject, facts, finished)
    keys = {
        "code": subject.source.parameters["code"],
        "data": subject.data.parameters["fingerprint"],
        "files": _files(spec),
    }
    opened = {"event": "open", "at": time.time(), "environment": environment(spec)}
    artifacts = [subject.source.key, subject.data.key]
    journal.append({**opened, "subject": keys, "artifacts": artifacts, "facts": dict(facts)})
    notes = [*spec.notes, *opening.collapsed]
    space = {"size": opening.size, "removed": dict(opening.removed), "notes": notes}
    journal.append({"event": "space", **space})
    session.opening(opening)


def _drive(driver: Driver, journal: Journal, observe: Observer) -> str:
    why = "failed"
    try:
        why = driver.run(observe)
    finally:
        summary = driver.summary()
        journal.append({"event": "close", "at": time.time(), "why": why, "summary": summary})
    return why


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: the first one is only noted, a second one interrupts."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def once(number: int, frame: object) -> None:
        pressed.append(number)
        signal(SIGINT, before)

    before = signal(SIGINT, once)
    try:
        yield lambda: bool(pressed)
    finally:
        signal(SIGINT, before)


def _same_subject(earlier: RunData, subject: Subject, folder: Path) -> None:
    """Refuse to mix trials of two models or two data sets in one run.

    Raises:
        RunFolderError: The task file, the weights or the data changed since the run began.
    """
    told = {
        "the model's code or weights": ("code", subject.source.parameters["code"]),
        "the data": ("data", subject.data.parameters["fingerprint"]),
    }
    for what, (word, now) in told.items():
        before = _recorded(earlier, word)
        if before is not None and before != now:
            raise RunFolderError(
                f"{what} changed since this run began",
                place=str(folder),
                remedy="add --fork to start a new run beside it, or name another folder with --out",
            )


def _recorded(earlier: RunData, word: str) -> str | None:
    opened = [event for event in earlier.events if event["event"] == "open"]
    return opened[-1].get("subject", {}).get(word) if opened else None


def _logger(path: Path) -> Callable[[str], None]:
    def log(text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {text}\n")

    return log
