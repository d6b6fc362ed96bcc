"""The process that runs the stages of all trials of a Tune experiment."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune.engine.cluster import Cluster
from autotune.engine.graph import Graph, Handle
from autotune.engine.plan import Plan, Subject, plan
from autotune.errors import Infeasible, MachineError
from autotune.integrations.ray_tune.space import configuration, literal
from autotune.search.effort import effort
from autotune.search.outcome import Bench, fatal, outcome
from autotune.search.starts import baselines
from autotune.space import Configuration
from autotune.spec import Spec
from autotune.store.artifacts import Store
from autotune.trial import Outcome, Rejected, Trial

POLL_S = 0.1


class Evaluator:
    """One memoised graph for all of Tune's trials, whose actors only wait for it.

    It is a Ray actor that asks for no core: stages ask for theirs, and for the lane, and those that
    two trials share run once also where both are in flight. Its methods may be called by many
    threads at once.

    Args:
        spec: What is evaluated, and on which targets.
        subject: The user's model and data, taken in.
        store: The folder of the artifacts.
        cluster: Where stages run.
    """

    def __init__(self, spec: Spec, subject: Subject, store: Path, cluster: Cluster) -> None:
        self._spec = spec
        self._subject = subject
        self._targets = {target.name: target for target in spec.targets}
        self._graph = Graph(Store(store), cluster, self._targets)
        self._lock = threading.Lock()
        self._count = 0
        self._baseline = self._graph.submit(self._plan(baselines(spec)[0]).accuracy)

    def evaluate(self, config: Mapping[str, Any]) -> Trial:
        """The finished trial of one of Tune's configurations; it waits for its stages.

        Raises:
            UserError: The configuration names a knob that the space does not have.
            MachineError: The disk is full.
        """
        with self._lock:
            number = self._count
            self._count += 1
        try:
            point = configuration(self._spec, config)
        except Infeasible as reason:
            return Trial(number, literal(config), "external", Rejected(str(reason)))
        return self._run(Trial(number, point, "external"))

    def _run(self, trial: Trial) -> Trial:
        stages = self._plan(trial.configuration)
        with self._lock:
            fresh = tuple(s.name for s in stages.chain() if self._graph.pending(s))
            accuracy = self._graph.submit(stages.accuracy)
            latency = self._graph.submit(stages.latency)
        ended = self._wait(trial, stages, accuracy, latency)
        with self._lock:
            seconds = self._graph.stage_seconds(stages.chain())
        return replace(trial, outcome=ended, stage_seconds=seconds, executed=fresh)

    def _wait(self, trial: Trial, stages: Plan, accuracy: Handle, latency: Handle) -> Outcome:
        name = str(trial.configuration.get("target", self._spec.targets[0].name))
        bench = Bench(self._graph.store, tuple(self._spec.metrics), self._baseline)
        while True:
            with self._lock:
                self._graph.step(0)
                ended = outcome(stages, accuracy, latency, self._targets[name], bench)
            if words := fatal((accuracy, latency)):
                raise MachineError(words)
            if ended is not None:
                return ended
            time.sleep(POLL_S)

    def _plan(self, point: Configuration) -> Plan:
        spec = self._spec
        return plan(point, self._subject, self._targets, effort(spec), spec.scenario)
