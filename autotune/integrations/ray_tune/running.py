"""What Tune runs for each trial, and the Ray that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autotune.engine import intake
from autotune.engine.cluster import Cluster, cluster, machines
from autotune.engine.plan import Subject, needs
from autotune.errors import AutotuneError
from autotune.integrations.ray_tune.evaluator import Evaluator
from autotune.integrations.ray_tune.reporting import row
from autotune.search.session import sources
from autotune.slo import Direction
from autotune.spec import Spec, on_machines
from autotune.trial import Failed, Trial

Trainable = Callable[[dict[str, Any]], None]
WAITING = 256
"""Trials that may wait for the evaluator at once; further ones queue."""
ACTOR_BYTES = 256 * 2**20
"""What one of Tune's trial processes takes; it is all that it asks Ray for."""


class TrialFailed(AutotuneError):  # noqa: N818 - as the outcome is called
    """A stage of the trial failed; the message says which and why. It was reported before."""


@contextmanager
def trainable(spec: Spec, store: Path | str, address: str | None = None) -> Iterator[Trainable]:
    """A function for ``tune.Tuner`` that evaluates a configuration with autotune's engine.

    Inside the block there is a Ray that offers the lanes: the one that this process is connected
    to, the one at ``address``, or a local one, started for the block and stopped after it. The
    user's model and data are taken in once. A trial's own process asks for memory and for no core;
    the cores are for the stages that it waits for, which all trials share.

    A trial that fails is reported with its outcome and reason, then it raises ``TrialFailed``, so
    that Tune counts it among its errors; one that is rejected ends normally.

    Args:
        spec: What is evaluated.
        store: The folder of the artifacts; runs and experiments may share one.
        address: An existing Ray cluster.

    Raises:
        UserError: Something in the task file, the machine or the cluster.
    """
    root = Path(store).resolve()
    process = intake.start(
        spec.model, spec.data, sources(spec), root, needs(spec.space, spec.model)
    )
    try:
        with cluster(spec.targets, address, root) as where:
            if where.cores is None:  # not a Ray of our own: its nodes are what is measured on
                spec = on_machines(spec, machines(spec.targets))
            subject, _ = intake.finish(process, spec.seed)
            evaluator = _start(spec, subject, root, where)
            try:
                yield _trainable(evaluator, spec.objectives)
            finally:
                ray.kill(evaluator)
    finally:
        intake.end(process)


def _start(spec: Spec, subject: Subject, root: Path, where: Cluster) -> Any:
    """The evaluator, on this node: its disk holds the store."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Evaluator).options(
        num_cpus=0, max_concurrency=WAITING, scheduling_strategy=here
    )
    return actor.remote(spec, subject, root, where)


def _trainable(evaluator: Any, objectives: Mapping[str, Direction]) -> Trainable:
    def autotune(config: dict[str, Any]) -> None:
        trial: Trial = ray.get(evaluator.evaluate.remote(config))
        tune.report(row(trial, objectives))
        if isinstance(trial.outcome, Failed):
            raise TrialFailed(trial.outcome.reason)

    function: Trainable = tune.with_resources(autotune, {"cpu": 0, "memory": ACTOR_BYTES})
    return function
