"""The driver: asks for the next configuration, has its stages run, keeps what came out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autotune.engine.graph import Graph
from autotune.engine.plan import Plan, Subject, plan
from autotune.runfolder import encode_outcome
from autotune.search import account
from autotune.search.confirm import Bench, confirm, reserve_s
from autotune.search.effort import effort
from autotune.search.pipeline import Pipeline
from autotune.search.profiles import reserve_s as profiles_s
from autotune.search.propose import Proposal, Proposer
from autotune.search.starts import baselines, experts
from autotune.space import Configuration
from autotune.spec import Spec
from autotune.store.journal import Journal
from autotune.target import Target
from autotune.trial import Rejected, Trial

POLL_S = 0.5
AHEAD = 4
"""Trials in flight beyond one per lane and preparing core."""
REJECTED = 4
"""So many times the budget may be rejected because of earlier failures before a search gives up."""
FINISH_S = 5.0
"""Kept back from the time budget for what comes after the last trial: tables and report."""


@dataclass(frozen=True)
class State:
    """What an observer is told.

    Attributes:
        trials: Every trial so far.
        stages: The names of the stages under way.
        elapsed_s: How long the run has taken, earlier sessions included.
        progress: How far the trainings under way are, a line each.
    """

    trials: Sequence[Trial]
    stages: Sequence[str]
    elapsed_s: float
    progress: Sequence[str] = ()


Observer = Callable[[State], None]


def in_flight(targets: Sequence[Target]) -> int:
    """How many trials to have under way, so that no lane and no preparing core ever waits."""
    cores = max(len(target.preparing) for target in targets)
    return sum(target.lanes for target in targets) + cores + AHEAD


def counts(trial: Trial) -> bool:
    """Whether a trial counts against the budget: it ended, and not before it began."""
    return trial.outcome is not None and not isinstance(trial.outcome, Rejected)


class Driver:
    """One session of a search.

    Args:
        spec: What is asked.
        subject: The user's model and data, taken in.
        graph: Where stages run.
        journal: Where every trial is written before and after.
        history: What earlier sessions of the run tried, finished and not.
        ran: The stages that they ran.
        used_s: The time they took, which counts against the budget.
        began: When this session began (``time.monotonic``).
        stopped: Whether to end soon; what is under way is given up, everything measured is kept.
        log: Gets a line for every stage and trial that ended.
        planner: From a configuration to its stages, in the place of ``engine.plan``.
    """

    def __init__(
        self,
        spec: Spec,
        subject: Subject,
        graph: Graph,
        journal: Journal,
        history: Sequence[Trial],
        *,
        ran: Sequence[account.Ran] = (),
        used_s: float = 0.0,
        began: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
        log: Callable[[str], None] = lambda _: None,
        planner: Callable[[Configuration], Plan] | None = None,
    ) -> None:
        targets = {target.name: target for target in spec.targets}
        self._spec = spec
        self._journal = journal
        self._graph = graph
        self._log = log
        how = (targets, effort(spec), spec.scenario)
        self._plan = planner or (lambda c: plan(c, subject, *how))
        self._begun: dict[int, Trial] = {t.number: t for t in history}
        self._ended: dict[int, Trial] = {t.number: t for t in history if t.outcome is not None}
        self._next = max((t.number for t in history), default=-1) + 1
        self._used_s = used_s
        self._began = time.monotonic() if began is None else began
        self._stopped = stopped
        self._declined = -1
        self._pipeline = Pipeline(spec, graph, self._plan, log, journal.append, ran)
        self._propose = Proposer(
            spec.space,
            spec.objectives,
            spec.sampler,
            spec.seed,
            self._starts(history),
            self._pipeline.cost_s,
        )

    def run(self, observe: Observer) -> str:
        """Search until the budget is spent, confirm the front; why it ended.

        Returns:
            budget, time, exhausted or interrupted.

        Raises:
            MachineError: The disk is full; what was measured is kept.
        """
        why = ""
        while not why or self._pipeline.running:
            if not why:
                why = self._fill()
            if self._stopped() or self._time_left() <= 0:
                why = "interrupted" if self._stopped() else "time"
                self._pipeline.abandon()  # the journal knows that they began: a later session's
                break
            observe(self._state())
            self._pipeline.step(POLL_S)
            for trial in self._pipeline.settle(list(self._ended.values())):
                self._keep(trial)
        if why != "interrupted":
            why = self._confirm(observe) or why
        observe(self._state())
        return why

    def summary(self) -> dict[str, Any]:
        """Times and counts for the run's record."""
        return {
            "wall_s": self._elapsed_s(),
            "budget_s": self._spec.budget.seconds,
            "overhead_s_per_trial": self._pipeline.account.overhead_s_per_trial(),
            **account.stages(
                [(t, self._plan(t.configuration)) for t in {**self._begun, **self._ended}.values()],
                self._pipeline.account.executed,
            ),
        }

    def _confirm(self, observe: Observer) -> str:
        """Measure the front again and write down what came out; "interrupted" where it was."""
        reserved = reserve_s(self._spec.budget.seconds)
        most = min(reserved, self._time_left() + reserved)
        began, began_at = time.monotonic(), time.time()
        bench = Bench(
            self._spec,
            self._graph,
            self._plan,
            lambda: 0.0 if self._stopped() else began + most - time.monotonic(),
            lambda: observe(self._state()),
        )
        for trial in confirm(self._history(), bench):
            if trial.outcome is not None:
                self._ended[trial.number] = trial
                event = {"event": "confirmed", "number": trial.number, "at": time.time()}
                self._journal.append({**event, "outcome": encode_outcome(trial.outcome)})
                self._log(f"trial {trial.number} confirmed")
        self._pipeline.account.beside(began_at, time.monotonic() - began)
        return "interrupted" if self._stopped() else ""

    def _starts(self, history: Sequence[Trial]) -> list[Proposal]:
        """The baselines, what was in flight when an earlier session ended, the experts' choices."""
        lost = {t.configuration.key: t for t in history if t.outcome is None}
        first = [Proposal(c, "baseline") for c in baselines(self._spec)]
        again = [Proposal(t.configuration, t.origin) for t in lost.values()]
        starts = [*first, *again, *(Proposal(c, "expert") for c in experts(self._spec))]
        numbers = {key: trial.number for key, trial in lost.items()}
        return [replace(p, number=numbers.get(p.configuration.key)) for p in starts]

    def _fill(self) -> str:
        """Start trials until enough are in flight; why no more will be, or ""."""
        running = self._pipeline.running
        while len(running) < in_flight(self._spec.targets):
            spent = sum(counts(trial) for trial in self._ended.values())
            if spent + len(running) >= self._spec.budget.trials:
                return "budget"
            if len(self._ended) - spent > REJECTED * self._spec.budget.trials:
                return "exhausted"
            if self._declined == len(self._ended):
                return ""  # nothing has ended since
            most_s = self._time_left() - self._pipeline.backlog_s() if self._ended else math.inf
            cheap = self._pipeline.starving()
            proposal = self._propose(self._history(), cheap=cheap, most_s=most_s)
            if proposal is None:
                return "exhausted"
            if self._pipeline.cost_s(proposal.configuration) > most_s:
                self._declined = len(self._ended) if running else -1
                return "" if running else "time"
            self._start(proposal)
        return ""

    def _start(self, proposal: Proposal) -> None:
        number = self._next if proposal.number is None else proposal.number
        self._next = max(self._next, number + 1)
        self._journal.append(
            {
                "event": "trial",
                "number": number,
                "origin": proposal.origin,
                "settings": dict(proposal.configuration),
                "at": time.time(),
            }
        )
        trial = self._begun[number] = Trial(number, proposal.configuration, proposal.origin)
        rejected = self._pipeline.reject(trial)
        if rejected is not None:
            self._keep(rejected)
        else:
            self._pipeline.start(trial, self._ended.values())

    def _keep(self, trial: Trial) -> None:
        """Write down how a trial ended."""
        if trial.outcome is None:
            raise ValueError(f"trial {trial.number} has not ended")
        self._ended[trial.number] = trial
        self._journal.append(
            {
                "event": "outcome",
                "number": trial.number,
                "outcome": encode_outcome(trial.outcome),
                "stage_seconds": dict(trial.stage_seconds),
                "executed": list(trial.executed),
                "at": time.time(),
            }
        )
        words = f"trial {trial.number} {trial.outcome.word} {trial.outcome.reason}"
        self._log(words.rstrip())

    def _history(self) -> list[Trial]:
        running = {number: r.trial for number, r in self._pipeline.running.items()}
        everything = {**self._ended, **running}
        return [everything[number] for number in sorted(everything)]

    def _elapsed_s(self) -> float:
        return self._used_s + time.monotonic() - self._began

    def _time_left(self) -> float:
        limit = self._spec.budget.seconds
        kept_back = FINISH_S + reserve_s(limit) + profiles_s(limit)
        return float("inf") if limit is None else limit - kept_back - self._elapsed_s()

    def _state(self) -> State:
        pipeline = self._pipeline
        names, progress = pipeline.stage_names(), pipeline.progress()
        return State(self._history(), names, self._elapsed_s(), progress)
