"""The library's front door: ``run`` a space, read the ``Run``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import deploy, runfolder
from autotune.engine import intake
from autotune.engine.plan import needs
from autotune.engine.quiet import LOG
from autotune.errors import MachineError, NothingFits, RunFolderError
from autotune.pick import Pick
from autotune.pick import pick as choose
from autotune.profile import Profile
from autotune.runfolder import RunData
from autotune.runfolder.tables import fractions
from autotune.scenario import Kind, Scenario
from autotune.search import folders, profiles
from autotune.search import session as sessions
from autotune.search.driver import Observer
from autotune.search.propose import front as search_front
from autotune.search.session import Opening, Session
from autotune.slo import QUANTITIES, SLO, Quantity, parse, sensible
from autotune.spec import Spec, load
from autotune.store.artifacts import Store
from autotune.store.journal import Journal

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Opening", "Run", "load", "run"]
REPORT = "report.html"


@dataclass(frozen=True)
class Run:
    """A run on disk, finished or not. Everything is derived from its journal."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    @property
    def data(self) -> RunData:
        """All of it, as values."""
        return runfolder.read(self.folder)

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial; see the README for the columns."""
        return runfolder.table(self.data)

    @property
    def front(self) -> pd.DataFrame:
        """The trials that no other dominates."""
        table = self.trials
        return table[table["on_front"]]

    @property
    def why(self) -> str:
        """Why the last session ended: budget, time, exhausted, interrupted; "" while it runs."""
        return str(self.data.summary["why"])

    def pick(self, *sentences: str) -> Pick:
        """The best trial that meets the sentences (``latency_p99 <= 2ms``, ``minimize cost``).

        Without any, those of the run's own ``slo`` section.

        Raises:
            NothingFits: None does; the message names the nearest miss.
            SpecError: A sentence says no limit, or one that it hardly means.
            TypeError: A sentence is no text.
        """
        for sentence in sentences:
            if not isinstance(sentence, str):
                raise TypeError(f"a limit is text such as 'latency_p99 <= 2ms', not {sentence!r}")
        data = self.data
        slo = parse([(s, "") for s in sentences or data.slo], data.metrics)
        if sentences:  # the run's own were looked at when its file was read
            sensible(slo, fractions(data), {})
        return self.choose(slo)

    def choose(self, slo: SLO) -> Pick:
        """The best trial that meets ``slo``; errors as for ``pick``."""
        data = self.data
        kind = data.spec.get("scenario", "single_stream")
        return choose(data.trials, slo, default_objective(data.objectives, kind))

    def shrink(self, limit_bytes: int, store: Path | None = None) -> int:
        """Remove artifacts until ``limit_bytes`` are left; the bytes freed.

        Those of the front and of the pick stay, and so do the model and the data as given.

        Raises:
            RunFolderError: There is no run, or it is under way and needs its artifacts.
            MachineError: The disk refuses.
        """
        runfolder.read(self.folder)  # before the lock, which would make a journal
        with folders.disk(self.folder), Journal(self.folder / runfolder.JOURNAL):
            return Store(store or self.folder / "store").collect(limit_bytes, _needed(self.data))

    def profile(
        self,
        trial: int | None = None,
        store: Path | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> dict[int, Profile]:
        """Where a request's time goes, by trial: of this one, or of the pick; and its baseline's.

        Taken where the run holds none yet, on this machine; the report shows it from then on.
        ``tell`` is told who is waited for where another run measures.

        Raises:
            UserError: There is no such trial, it cannot be profiled here, or the run is under way.
            MachineError: The disk refuses, or there are too few cores.
        """
        asked = profiles.wanted(self.data, trial)
        if found := profiles.held(self.data, asked):
            return found
        with folders.disk(self.folder), Journal(self.folder / runfolder.JOURNAL) as journal:
            place = Store(store or self.folder / "store")
            found = profiles.ensure(self.data, asked, place, journal, tell)
            self.report()
        return found

    def report(self, path: Path | str | None = None) -> Path:
        """Write the HTML report, by default into the run folder; its path."""
        from autotune.report import render

        target = Path(path) if path is not None else self.folder / REPORT
        with folders.disk(target):
            if target.is_dir():
                remedy = "name a file, for example report.html"
                raise RunFolderError("this is a folder", place=str(target), remedy=remedy)
            if not target.parent.is_dir():
                remedy = "make it first, or name another file"
                raise RunFolderError(
                    "there is no such folder", place=str(target.parent), remedy=remedy
                )
            folders.write(target, render(self.data))
        return target


def run(
    spec: Spec | Path | str,
    *,
    out: Path | str | None = None,
    store: Path | str | None = None,
    address: str | None = None,
    fork: bool = False,
    overrides: Mapping[str, object] | None = None,
    profile: bool = True,
    opening: Callable[[Opening], None] = lambda _: None,
    observe: Observer = lambda _: None,
) -> Run:
    """Search a space to its budget, or go on where an earlier session of the run ended.

    Args:
        spec: A space file, or one that is loaded.
        out: The run folder; by default ``runs/<name>``.
        store: The folder of the artifacts, to share it between runs; by default ``out/store``.
        address: An existing Ray cluster; by default a local one is started and stopped.
        fork: Where the folder holds a run of another spec, start a new run beside it that shares
            its artifacts.
        overrides: Dotted keys that replace what the file says: ``{"budget.trials": 8}``.
        profile: Whether to say in the end where the time of the pick and of its baseline goes, if
            the time budget has a few seconds left for it.
        opening: Told what is ahead, once.
        observe: Told how it goes, about twice a second.

    Raises:
        UserError: Something in the spec, the task file, the run folder or the machine.
        TypeError: ``spec`` is neither a spec nor a path.
    """
    if not isinstance(spec, Spec | str | Path):
        raise TypeError(f"spec is a Spec or the path of a space file, not {spec!r}")
    if not isinstance(spec, Spec):
        spec = load(Path(spec), overrides)
    folder = Path(out) if out is not None else Path("runs") / spec.name
    root = Path(store) if store is not None else folder / "store"
    with folders.disk(folder):
        folder = folders.of(folder, spec, fork=fork)
        token = LOG.set(folder / "log.txt")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with Journal(folder / runfolder.JOURNAL) as journal:
                folders.prepare(folder, spec)
                earlier = runfolder.read(folder)
                if not sessions.complete(spec, earlier):
                    wanted = Session(spec, folder, root, address, opening, observe)
                    _held(wanted, journal, earlier)
                finish(Run(folder), Store(root), journal, profile=profile)
        finally:
            LOG.reset(token)
    return Run(folder)


def check(spec: Spec) -> Opening:
    """What ``run`` would say before its first trial: the model and data are taken in, no more.

    Raises:
        UserError: What is wrong with them.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = intake.start(
            spec.model,
            spec.data,
            sessions.sources(spec),
            Path(folder),
            needs(spec.space, spec.model),
        )
        subject, facts = intake.finish(process, spec.seed)
        return sessions.ahead(spec, Path("runs") / spec.name, subject, facts, 0)


def finish(
    run: Run, store: Store, journal: Journal | None = None, *, profile: bool = False
) -> None:
    """Write what is derived from the journal: the pick, the tables, the report, ``best/``."""
    data = run.data
    decide = bool(data.trials) and journal is not None
    found = _decide(run, data, journal) if decide and journal is not None else None
    runfolder.write_tables(run.data, run.folder)
    run.report()
    if decide:
        trial = next((t for t in data.trials if found and t.number == found.trial), None)
        deploy.ship(trial, found, store, run.folder / deploy.BEST)
    if journal is not None and profile and run.why not in ("interrupted", "failed"):
        _profile(run, store, journal)


def _profile(run: Run, store: Store, journal: Journal) -> None:
    """Profile the answer and its baseline in what is left of the time, and show them."""
    data = run.data
    with suppress(KeyboardInterrupt):  # everything else is there
        if profiles.complete(data, store, journal, lambda: profiles.left_s(data)):
            run.report()


def _held(session: Session, journal: Journal, earlier: RunData) -> None:
    """A session; if it breaks off after trials were measured, they are reported all the same."""
    try:
        sessions.hold(session, journal, earlier)
    except Exception:
        with suppress(OSError, MachineError):
            if runfolder.read(session.folder).trials:
                finish(Run(session.folder), Store(session.store))
        raise


def _decide(run: Run, data: RunData, journal: Journal) -> Pick | None:
    if not data.slo and any(trial.measurement for trial in data.trials):
        return None  # nothing was asked for: `autotune pick` chooses later
    try:
        found = run.pick()
    except NothingFits as miss:
        _note(journal, data, {"event": "pick", "trial": None, "checks": [], "message": str(miss)})
        return None
    event = {"event": "pick", **asdict(found), "message": ""}
    _note(journal, data, json.loads(json.dumps(event, default=str)))
    return found


def _note(journal: Journal, data: RunData, event: Mapping[str, Any]) -> None:
    if dict(data.pick or {}) != dict(event):
        journal.append(event)


def default_objective(objectives: Collection[str], kind: Kind = "single_stream") -> Quantity:
    """What is optimised where no sentence says: the cost where it is an objective, else the speed.

    That is the p50; a server's rate, or the throughput, in another load scenario.
    """
    cost = QUANTITIES["cost"]
    return cost if cost.column in objectives else Scenario(kind).figure


def _needed(data: RunData) -> set[str]:
    """The keys that no ``gc`` removes."""
    picked = (data.pick or {}).get("trial")
    kept = [*search_front(data.trials, data.objectives)]
    kept += [trial for trial in data.trials if trial.number == picked]
    keys = {str(t.measurement.facts["artifact"]) for t in kept if t.measurement}
    keys |= {t.measurement.samples for t in kept if t.measurement}
    return keys | {key for event in data.events for key in event.get("artifacts", ())}
