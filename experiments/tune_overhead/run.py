"""What a trial costs beside its work: this engine's driver, and Ray Tune with its Optuna searcher.

The objective does nothing, the space is that of the digits, proposals come from Optuna's TPE; Tune
has every core and two trials at once, the driver keeps off the lane as it always does. Wall time
over trials is then overhead alone. Repeats are interleaved, each with a Ray of its own, whose first
few trials are not counted: starting Ray, and what only a first trial pays.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent)  # Ray's workers import `nothing`

import nothing
import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from record import publish

from autotune import spec as specs
from autotune.engine.cluster import Cluster, cluster
from autotune.engine.graph import Graph
from autotune.engine.plan import Subject
from autotune.engine.quiet import quiet
from autotune.integrations.ray_tune import search_space
from autotune.search.driver import Driver
from autotune.spec import Spec
from autotune.store.artifacts import Store
from autotune.store.journal import Journal

SPACE = Path(__file__).resolve().parents[2] / "search_spaces" / "digits" / "space.yaml"
TRIALS = 24
REPEATS = 3
Way = Callable[[Spec, Any, Path], None]
OBJECTIVES = {"accuracy": "max", "latency_p50_ms": "min"}


def ours(spec: Spec, where: Cluster, folder: Path) -> None:
    """The driver with its journal, its store and its graph; only the stages do nothing."""
    nowhere = nothing.plan(spec.space.grid().points[0]).network
    subject = Subject(spec.model, nowhere, nowhere, {}, spec.seed)
    graph = Graph(Store(folder / "store"), where, {t.name: t for t in spec.targets})
    with Journal(folder / "journal.jsonl") as journal:
        driver = Driver(spec, subject, graph, journal, (), planner=nothing.plan)
        why = driver.run(lambda _: None)
        ended = driver.summary()["stages_executed"]
    if why != "budget" or ended != 3 * spec.budget.trials:
        raise RuntimeError(f"ended by {why} after {ended} stages")


def tunes(spec: Spec, where: None, folder: Path, reuse: bool = False) -> None:
    """Ray Tune as its documentation shows it: a function, two at once, OptunaSearch."""

    def report(config: dict[str, object]) -> None:
        tune.report(nothing.objective(repr(sorted(config.items()))))

    search = OptunaSearch(metric=list(OBJECTIVES), mode=list(OBJECTIVES.values()), seed=spec.seed)
    tuner = tune.Tuner(
        tune.with_resources(report, {"cpu": 1}),
        param_space=search_space(spec),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=spec.budget.trials,
            max_concurrent_trials=2,
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    with quiet():
        results = tuner.fit()
    if len(results) != spec.budget.trials or results.num_errors:
        raise RuntimeError(f"{len(results)} trials, {results.num_errors} errors")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        seconds = _measure(Path(folder))
    best = median(seconds["autotune"])
    rows = [
        {
            "system": name,
            "trials": TRIALS,
            "repeats": REPEATS,
            "ms a trial (median)": 1e3 * median(times),
            "lowest": 1e3 * min(times),
            "highest": 1e3 * max(times),
            "times autotune": median(times) / best,
        }
        for name, times in seconds.items()
    ]
    publish(
        __file__,
        "Overhead of a trial whose work is nothing",
        rows,
        seconds_per_trial=seconds,
    )


def _measure(folder: Path) -> dict[str, list[float]]:
    full = specs.load(SPACE, {"budget.trials": TRIALS})
    few = specs.load(SPACE, {"budget.trials": 4})
    ways: dict[str, tuple[Callable[[Spec], AbstractContextManager[Any]], Way]] = {
        "autotune": (lambda spec: cluster(spec.targets), ours),
        "Ray Tune": (_every_core, tunes),
        "Ray Tune, reuse_actors": (_every_core, partial(tunes, reuse=True)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(REPEATS):
        for name, (start, way) in ways.items():
            place = folder / f"{name} {repeat}"
            with start(full) as where:
                _timed(way, few, where, place / "warm")
                seconds[name].append(_timed(way, full, where, place / "full") / TRIALS)
    return seconds


@contextmanager
def _every_core(spec: Spec) -> Iterator[None]:
    """Ray as a user of Tune has it: no lane is kept free, nothing is pinned."""
    with quiet():
        ray.init(
            address="local",
            num_cpus=len(spec.targets[0].machine.cores),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    try:
        yield
    finally:
        with quiet():
            ray.shutdown()


def _timed(way: Way, spec: Spec, where: Any, folder: Path) -> float:
    folder.mkdir(parents=True)
    begun = time.perf_counter()
    way(spec, where, folder)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
