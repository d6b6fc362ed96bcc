"""Trials under way: their stages submitted, looked at as they end, and turned into outcomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from autotune.artifact import Stage
from autotune.engine.graph import Graph, Handle
from autotune.engine.plan import Plan, trains
from autotune.errors import MachineError
from autotune.search import prospect
from autotune.search.account import Account, Ran
from autotune.search.costs import Costs
from autotune.search.outcome import Bench, fatal, outcome
from autotune.search.race import entered, judged, lost, race
from autotune.search.starts import baselines
from autotune.space import Configuration
from autotune.spec import Spec
from autotune.target import Target
from autotune.trial import Outcome, Rejected, Trial

BACKLOG_S = 3.0
"""With so much work waiting for the cores, an idle lane is given what needs it alone."""


@dataclass(frozen=True)
class Running:
    """A trial under way: its stages; the two that decide, or first the proxy that may end it."""

    trial: Trial
    plan: Plan
    proxy: Handle | None = None
    accuracy: Handle | None = None
    latency: Handle | None = None

    def handles(self) -> Iterator[Handle]:
        """The stages that have been asked for."""
        return (h for h in (self.proxy, self.accuracy, self.latency) if h is not None)


class Pipeline:
    """Trials under way, by number.

    Args:
        spec: What is asked.
        graph: Where stages run.
        planner: From a configuration to its stages.
        log: Gets a line for every stage that ended.
        record: Keeps an event for every stage that ran.
        ran: The stages that earlier sessions ran.
    """

    def __init__(
        self,
        spec: Spec,
        graph: Graph,
        planner: Callable[[Configuration], Plan],
        log: Callable[[str], None],
        record: Callable[[Mapping[str, Any]], None],
        ran: Iterable[Ran],
    ) -> None:
        self.running: dict[int, Running] = {}
        self.costs = Costs()
        self.account = Account(ran)
        self._spec = spec
        self._graph = graph
        self._planner = planner
        self._log = log
        self._record = record
        self._targets = {target.name: target for target in spec.targets}

    def reject(self, trial: Trial) -> Trial | None:
        """The trial as rejected, where a stage it needs has failed in an earlier one; else None."""
        found = self._graph.broken(self._planner(trial.configuration).chain())
        if found is None:
            return None
        return replace(
            trial, outcome=Rejected(f"as in an earlier trial, {found.stage}: {found.error}")
        )

    def start(self, trial: Trial, ended: Iterable[Trial]) -> None:
        """Begin a trial: with its structure's latency where training costs much more than that."""
        running = Running(trial, self._planner(trial.configuration))
        proxy = running.plan.proxy
        if proxy is None or not self._worth_a_look(running.plan, proxy, ended):
            self._submit(running, ended)
            return
        running = self._noted(running, proxy.chain())
        self.running[trial.number] = replace(running, proxy=self._graph.submit(proxy))

    def step(self, timeout_s: float) -> None:
        """Wait until a stage ends, at most so long."""
        for handle in self._graph.step(timeout_s):
            self._learn(handle)

    def settle(self, ended: Sequence[Trial]) -> Iterator[Trial]:
        """The trials whose outcome is known now; they are under way no more.

        Raises:
            MachineError: The disk is full: nothing further can succeed.
        """
        for running in list(self.running.values()):
            found = self._outcome(running, ended)
            if found is not None:
                yield self._end(running, found)
            if words := fatal(running.handles()):
                raise MachineError(words)

    def abandon(self) -> None:
        """Give up everything under way."""
        for running in self.running.values():
            for handle in running.handles():
                self._graph.cancel(handle)
        self.running.clear()

    def cost_s(self, configuration: Configuration) -> float:
        """Seconds of work that a configuration would probably add."""
        stages = self._planner(configuration).chain()
        return self.costs.predict(s.name for s in stages if self._graph.pending(s))

    def backlog_s(self) -> float:
        """Seconds of preparing work that is under way, as if all of it were still to be done."""
        return self.costs.predict(s.name for s in self._stages() if not s.lane)

    def starving(self) -> bool:
        """Whether the lanes have nothing to measure while the preparing cores have much to do."""
        under_way = self._stages()
        store = self._graph.store
        if any(s.lane and all(store.has(i.key) for i in s.inputs) for s in under_way):
            return False
        return self.backlog_s() > BACKLOG_S

    def stage_names(self) -> list[str]:
        """The stages under way."""
        return [stage.name for stage in self._stages()]

    def progress(self) -> list[str]:
        """How far the trainings under way are, a line each."""
        return self._graph.progress()

    def _stages(self) -> list[Stage]:
        return [handle.stage for handle in self._graph.under_way()]

    # ---- a trial's way ---------------------------------------------------------------------------

    def _submit(self, running: Running, ended: Iterable[Trial]) -> None:
        running = self._noted(running, running.plan.chain())
        accuracy = self._graph.submit(running.plan.accuracy)
        latency = self._graph.submit(self._raced(running, accuracy, ended))
        self.running[running.trial.number] = replace(running, accuracy=accuracy, latency=latency)

    def _raced(self, running: Running, accuracy: Handle, ended: Iterable[Trial]) -> Stage:
        """The latency's stage, which gives up early where the accuracy is known and it can."""
        latency, trial = running.plan.latency, running.trial
        known = accuracy.result
        single = self._spec.scenario.kind == "single_stream"
        if known is None or not known.ok or not single or trial.origin == "baseline":
            return latency
        rivals = [t for t in ended if self._target(t) == self._target(trial)]
        batch = int(trial.configuration["batch"])
        return entered(latency, race(judged(known), batch, rivals, prospect.counting(self._spec)))

    def _noted(self, running: Running, chain: Iterable[Stage]) -> Running:
        """The trial with the stages noted that run for it and were not there before."""
        fresh = tuple(stage.name for stage in chain if self._graph.pending(stage))
        executed = (*running.trial.executed, *fresh)
        return replace(running, trial=replace(running.trial, executed=executed))

    def _worth_a_look(self, plan: Plan, proxy: Stage, ended: Iterable[Trial]) -> bool:
        """Whether training costs so much more than its structure's latency that it comes first."""
        look = {s.key: s.name for s in proxy.chain() if self._graph.pending(s)}
        trainings = [
            s.name
            for s in plan.network.chain()
            if s.kind == "network" and s.key not in look and self._graph.pending(s)
        ]
        if not trainings or not any(trial.measurement for trial in ended):
            return False
        cost = self.costs.predict(trainings)
        return cost > prospect.WORTH * self.costs.predict(look.values())

    def _outcome(self, running: Running, ended: Sequence[Trial]) -> Outcome | None:
        target = self._target(running.trial)
        if running.accuracy is not None and running.latency is not None:
            if stopped := lost(running.latency):
                return stopped
            return outcome(running.plan, running.accuracy, running.latency, target, self._bench)
        found = running.proxy.result if running.proxy else None
        if found is None:
            return None
        if found.ok:  # one that failed is tried for real, so that the trial says why
            objectives, metrics = prospect.counting(self._spec), self._spec.metrics
            rivals = [t for t in ended if self._target(t) == target]
            stopped = prospect.hopeless(found, target, rivals, objectives, metrics)
            if stopped is not None:
                return stopped
        self._submit(running, ended)
        return None

    def _end(self, running: Running, found: Outcome) -> Trial:
        del self.running[running.trial.number]
        self.account.ended()
        seconds = self._graph.stage_seconds(running.plan.chain())
        return replace(running.trial, outcome=found, stage_seconds=seconds)

    def _learn(self, handle: Handle) -> None:
        """Note what a stage cost, and log what it said."""
        result = handle.result
        if result is None or not result.executed or result.key != handle.stage.key:
            return
        self.costs.add(handle.stage.name, result.seconds)
        trained = trains(handle.stage)
        self.account.ran((result.key, trained), result.began, result.seconds)
        event = {"event": "stage", "name": handle.stage.name, "key": result.key, "trains": trained}
        self._record({**event, "seconds": result.seconds, "ok": result.ok, "at": time.time()})
        said = f"stage {handle.stage.name} {handle.stage.key} {result.seconds:.2f} s"
        parts = [said, result.error, result.traceback, result.log.strip()]
        self._log("\n".join(part for part in parts if part))

    @cached_property
    def _bench(self) -> Bench:
        """What outcomes are made with; the baseline's accuracy is asked for if it is not there."""
        first = self._planner(baselines(self._spec)[0])
        baseline = self._graph.submit(first.accuracy)
        return Bench(self._graph.store, tuple(self._spec.metrics), baseline)

    def _target(self, trial: Trial) -> Target:
        name = str(trial.configuration.get("target", self._spec.targets[0].name))
        return self._targets[name]
