"""The driver: asks for the next configuration, runs its stages, keeps what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from autotune.artifact import Stage
from autotune.engine.graph import Graph, Handle
from autotune.engine.plan import Effort, Plan, Subject, plan
from autotune.errors import MachineError
from autotune.runfolder import encode_outcome
from autotune.search import account, prospect
from autotune.search.costs import Costs
from autotune.search.outcome import Bench, fatal, outcome
from autotune.search.propose import Proposal, Proposer
from autotune.search.starts import baselines, experts
from autotune.space import Configuration
from autotune.spec import Spec
from autotune.store.journal import Journal
from autotune.target import Target
from autotune.trial import Completed, Outcome, Trial

POLL_S = 0.5
AHEAD = 4
"""Trials in flight beyond one per lane and preparing core."""
BACKLOG_S = 3.0
"""With so much work waiting for the cores, an idle lane is given what needs it alone."""
FINISH_S = 5.0
"""Kept back from the time budget for what comes after the last trial: tables and report."""


@dataclass(frozen=True)
class Running:
    """A trial under way: its stages; the two that decide, or first the proxy that may end it."""

    trial: Trial
    plan: Plan
    begun: float
    proxy: Handle | None = None
    accuracy: Handle | None = None
    latency: Handle | None = None


@dataclass(frozen=True)
class State:
    """What an observer is told: every trial so far, what runs, and since when."""

    trials: Sequence[Trial]
    stages: Sequence[str]
    elapsed_s: float


Observer = Callable[[State], None]


def in_flight(targets: Sequence[Target]) -> int:
    """How many trials to have under way, so that no lane and no preparing core ever waits."""
    cores = max(len(target.preparing) for target in targets)
    return sum(target.lanes for target in targets) + cores + AHEAD


class Driver:
    """One session of a search.

    Args:
        spec: What is asked.
        subject: The user's model and data, taken in.
        graph: Where stages run.
        journal: Where every trial is written before and after.
        history: What earlier sessions of the run tried, finished and not.
        used_s: The time they took, which counts against the budget.
        began: When this session began (``time.monotonic``).
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
        used_s: float = 0.0,
        began: float | None = None,
        log: Callable[[str], None] = lambda _: None,
        planner: Callable[[Configuration], Plan] | None = None,
    ) -> None:
        self._spec = spec
        self._graph = graph
        self._journal = journal
        self._log = log
        self._targets = {target.name: target for target in spec.targets}
        effort = Effort(timeout_s=spec.stage_timeout_s)
        self._plan = planner or (lambda c: plan(c, subject, self._targets, effort))
        self._trials: dict[int, Trial] = {t.number: t for t in history if t.outcome is not None}
        self._running: dict[int, Running] = {}
        self._next = max((t.number for t in history), default=-1) + 1
        self._used_s = used_s
        self._began = time.monotonic() if began is None else began
        self._costs = Costs()
        self._stop = False
        self._account = account.Account()
        self._propose = Proposer(
            spec.space,
            spec.objectives,
            spec.sampler,
            spec.seed,
            self._starts(history),
            self._cost_s,
        )

    def run(self, observe: Observer) -> str:
        """Search until the budget is spent; why it ended: budget, time, exhausted, interrupted.

        Raises:
            MachineError: The disk is full; what was measured is kept.
        """
        why = ""
        while not why or self._running:
            if not why:
                why = self._fill()
            if self._time_left() <= 0 or self._stop:
                why = "interrupted" if self._stop else "time"
                self._abandon()
                break
            observe(self._state())
            for handle in self._graph.step(POLL_S):
                self._note(handle)
            self._settle()
        observe(self._state())
        return why

    def stop(self) -> None:
        """End soon: trials under way are given up, everything measured is kept."""
        self._stop = True

    def summary(self) -> dict[str, Any]:
        """Times and counts for the run's record."""
        ended = [(t, self._plan(t.configuration)) for t in self._trials.values()]
        return {
            "wall_s": self._elapsed_s(),
            "budget_s": self._spec.budget.seconds,
            "overhead_s_per_trial": self._account.overhead_s_per_trial(),
            **account.stages(ended),
        }

    # ---- filling the pipeline --------------------------------------------------------------------

    def _starts(self, history: Sequence[Trial]) -> list[Proposal]:
        """What was in flight when an earlier session ended, the baselines, the experts' choices."""
        lost = {t.configuration.key: t for t in history if t.outcome is None}
        first = [Proposal(c, "baseline") for c in baselines(self._spec)]
        again = [Proposal(t.configuration, t.origin) for t in lost.values()]
        starts = [*first, *again, *(Proposal(c, "expert") for c in experts(self._spec))]
        numbers = {key: trial.number for key, trial in lost.items()}
        return [replace(p, number=numbers.get(p.configuration.key)) for p in starts]

    def _fill(self) -> str:
        """Start trials until enough are in flight; why no more will be, or ""."""
        while len(self._running) < in_flight(self._spec.targets):
            if len(self._trials) + len(self._running) >= self._spec.budget.trials:
                return "budget"
            if self._costs.trial_s() > self._time_left():
                return "time"
            proposal = self._propose(self._history(), cheap=self._starving())
            if proposal is None:
                return "exhausted"
            self._start(proposal)
        return ""

    def _start(self, proposal: Proposal) -> None:
        number = self._next if proposal.number is None else proposal.number
        self._next = max(self._next, number + 1)
        trial = Trial(number, proposal.configuration, proposal.origin)
        stages = self._plan(proposal.configuration)
        self._journal.append(
            {
                "event": "trial",
                "number": number,
                "origin": proposal.origin,
                "settings": dict(proposal.configuration),
                "at": time.time(),
            }
        )
        running = Running(trial, stages, time.monotonic())
        if stages.proxy is not None and self._worth_a_look(stages, stages.proxy):
            running = self._executing(running, stages.proxy.chain())
            self._running[number] = replace(running, proxy=self._graph.submit(stages.proxy))
        else:
            self._submit(running)

    def _submit(self, running: Running) -> None:
        running = self._executing(running, running.plan.chain())
        self._running[running.trial.number] = replace(
            running,
            accuracy=self._graph.submit(running.plan.accuracy),
            latency=self._graph.submit(running.plan.latency),
        )

    def _executing(self, running: Running, chain: Iterable[Stage]) -> Running:
        """The trial with the stages noted that run for it and were not there before."""
        fresh = tuple(stage.name for stage in chain if self._graph.pending(stage))
        executed = (*running.trial.executed, *fresh)
        return replace(running, trial=replace(running.trial, executed=executed))

    def _worth_a_look(self, stages: Plan, proxy: Stage) -> bool:
        """Whether training costs so much more than its structure's latency that it comes first."""
        look = {s.key: s.name for s in proxy.chain() if self._graph.pending(s)}
        trainings = [
            s.name
            for s in stages.network.chain()
            if s.kind == "network" and s.key not in look and self._graph.pending(s)
        ]
        if not trainings or not any(t.measurement for t in self._trials.values()):
            return False
        cost = self._costs.predict(trainings)
        return cost > prospect.WORTH * self._costs.predict(look.values())

    # ---- taking in what ended --------------------------------------------------------------------

    def _settle(self) -> None:
        for running in list(self._running.values()):
            if running.accuracy is None or running.latency is None:
                self._consider(running)
                continue
            accuracy, latency = running.accuracy, running.latency
            target = self._target(running.trial)
            ended = outcome(running.plan, accuracy, latency, target, self._bench)
            if ended is not None:
                self._end(running, ended)
                if words := fatal(accuracy, latency):
                    raise MachineError(words)

    def _consider(self, running: Running) -> None:
        """Train, unless the latency of the structure says that it cannot matter any more."""
        found = running.proxy.result if running.proxy else None
        if found is None:
            return
        if found.fatal:
            raise MachineError(found.error)
        reason = None
        if found.ok:
            target, trials = self._target(running.trial), list(self._trials.values())
            objectives, metrics = self._spec.objectives, self._spec.metrics
            reason = prospect.hopeless(found, target, trials, objectives, metrics)
        if reason is not None:
            self._end(running, reason)
        else:  # a structure that failed is tried for real, so that the trial says why
            self._submit(running)

    @cached_property
    def _bench(self) -> Bench:
        """What outcomes are made with; the baseline's accuracy is asked for if it is not there."""
        first = self._plan(baselines(self._spec)[0])
        baseline = self._graph.submit(first.accuracy)
        return Bench(self._graph.store, next(iter(self._spec.metrics)), baseline)

    def _end(self, running: Running, outcome: Outcome) -> None:
        number = running.trial.number
        del self._running[number]
        if running.latency is not None and not isinstance(outcome, Completed):
            self._graph.cancel_unshared(running.latency, self._wanted())
        trial = replace(
            running.trial,
            outcome=outcome,
            stage_seconds=self._graph.stage_seconds(running.plan.chain()),
        )
        self._trials[number] = trial
        self._account.ended()
        self._costs.ended(time.monotonic() - running.begun)
        self._journal.append(
            {
                "event": "outcome",
                "number": number,
                "outcome": encode_outcome(outcome),
                "stage_seconds": dict(trial.stage_seconds),
                "executed": list(trial.executed),
                "at": time.time(),
            }
        )
        self._log(f"trial {number} {outcome.word} {outcome.reason}".rstrip())

    def _note(self, handle: Handle) -> None:
        result = handle.result
        if result is None or not result.executed or result.key != handle.stage.key:
            return
        self._costs.add(handle.stage.name, result.seconds)
        self._account.ran(result.began, result.seconds)
        said = f"stage {handle.stage.name} {handle.stage.key} {result.seconds:.2f} s"
        parts = [said, result.error, result.traceback, result.log.strip()]
        self._log("\n".join(part for part in parts if part))

    def _abandon(self) -> None:
        """Give up what is under way; the journal knows it began, so a later session takes it up."""
        for running in list(self._running.values()):
            for handle in (running.proxy, running.accuracy, running.latency):
                if handle is not None:
                    self._graph.cancel(handle)
        self._running.clear()

    # ---- looking things up -----------------------------------------------------------------------

    def _wanted(self) -> set[str]:
        return {s.key for r in self._running.values() for s in r.plan.chain()}

    def _history(self) -> list[Trial]:
        everything = {**self._trials, **{n: r.trial for n, r in self._running.items()}}
        return [everything[number] for number in sorted(everything)]

    def _cost_s(self, configuration: Configuration) -> float:
        stages = self._plan(configuration).chain()
        return self._costs.predict(s.name for s in stages if self._graph.pending(s))

    def _target(self, trial: Trial) -> Target:
        name = str(trial.configuration.get("target", self._spec.targets[0].name))
        return self._targets[name]

    def _time_left(self) -> float:
        limit = self._spec.budget.seconds
        if limit is None:
            return float("inf")
        return limit - FINISH_S - self._elapsed_s()

    def _elapsed_s(self) -> float:
        return self._used_s + time.monotonic() - self._began

    def _starving(self) -> bool:
        """Whether the lanes have nothing to measure while the preparing cores have much to do."""
        under_way = [handle.stage for handle in self._graph.under_way()]
        store = self._graph.store
        if any(s.lane and all(store.has(i.key) for i in s.inputs) for s in under_way):
            return False
        return self._costs.predict(s.name for s in under_way if not s.lane) > BACKLOG_S

    def _state(self) -> State:
        stages = [h.stage.name for h in self._graph.under_way()]
        return State(self._history(), stages, self._elapsed_s())
