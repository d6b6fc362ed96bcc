"""Configurations of the digits space, measured as a run measures them, or in a process on a lane.

What is timed are the structures, untrained where a student would be: latency does not hang on what
the weights are, and nothing has to be trained first.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))
from neighbours import Neighbours, neighbours, training
from stages import Bench

from autotune import hardware
from autotune.contracts import StageContext
from autotune.engine import child, lane
from autotune.target import Target

SPACE = Path(__file__).parents[2] / "search_spaces" / "digits" / "space.yaml"
Settings = Mapping[str, Any]
T = TypeVar("T")
_ANY_MS = 1e6
TAIL_PRECISION = 0.05

STRUCTURES: tuple[Settings, ...] = (
    {},
    {"batch": 8},
    {"student.width": 8, "batch": 4},
    {"student.width": 8, "student.depth": 1},
)
RUNTIMES: tuple[Settings, ...] = (
    {"backend": "torch"},
    {"backend": "onnxruntime"},
    {"backend": "onnxruntime", "precision": "int8"},
    {"backend": "openvino"},
    {"backend": "openvino", "precision": "int8"},
)
CONFIGURATIONS = tuple({**runtime, **shape} for shape in STRUCTURES for runtime in RUNTIMES)
"""Twenty, of very different speed."""
_STRIDE = 7
"""Shares no factor with twenty."""


def some(count: int) -> tuple[Settings, ...]:
    """So many of them, of every runtime and shape as far as they go."""
    return tuple(CONFIGURATIONS[i * _STRIDE % len(CONFIGURATIONS)] for i in range(count))


@contextmanager
def bench(store: Path | None) -> Iterator[Bench]:
    """The digits space; its artifacts in ``store``, or only for now."""
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(SPACE, store or Path(folder))


def name(settings: Settings) -> str:
    """``onnxruntime int8 8x1 b4``: runtime, precision, width and depth, batch."""
    shape = f"{settings.get('student.width', 16)}x{settings.get('student.depth', 2)}"
    precision = settings.get("precision", "fp32")
    return f"{settings['backend']} {precision} {shape} b{settings.get('batch', 1)}"


def prepare(bench: Bench, settings: Settings) -> dict[str, Any]:
    """The configuration's artifact made; what opens it: backend, artifact, settings, batch."""
    plan = bench.plan(settings)
    stage = plan.proxy or plan.latency
    made = bench.run(stage.inputs[0])
    wanted = ("backend", "settings", "batch")
    return {
        "name": name(settings),
        "artifact": str(bench.store.open(made.key)),
        **{word: stage.parameters[word] for word in wanted},
    }


def measure(bench: Bench, settings: Settings, tail_s: float | None = None) -> dict[str, Any]:
    """One measurement as a run takes it, fresh process and all: its columns' values and facts.

    With ``tail_s`` as a finalist is: so long at most, until the p99's interval is narrow.
    """
    plan = bench.plan(settings)
    stage = plan.proxy or plan.latency
    if tail_s is not None:
        finalist = {"tail_max_s": tail_s, "tail_precision": TAIL_PRECISION}
        effort = {**stage.parameters["effort"], "tail_below_ms": _ANY_MS, **finalist}
        stage = dataclasses.replace(stage, parameters={**stage.parameters, "effort": effort})
    inputs = tuple(bench.store.open(bench.run(before).key) for before in stage.inputs)
    with tempfile.TemporaryDirectory() as folder:
        told = lane.latency(StageContext(stage, inputs, Path(folder), Path(folder)))
    return {**told, **{column: found["value"] for column, found in told["columns"].items()}}


def fresh(target: Target, work: Callable[..., T], *arguments: Any) -> T:
    """What ``work`` gives in a process of its own on a lane that nobody else measures on."""
    with (
        hardware.lane(target) as cores,
        ProcessPoolExecutor(1, get_context("spawn"), _begin, (cores, os.getpid())) as pool,
    ):
        return pool.submit(work, *arguments).result()


def _begin(cores: Sequence[int], parent: int) -> None:
    child.die_with(parent)
    child.take(cores)


@contextmanager
def sweep(bench: Bench) -> Iterator[Neighbours]:
    """A preparing worker as a run has it, training on the cores that are no lane's."""
    cores = bench.spec.targets[0].preparing
    task = str(SPACE.with_name("task.py"))
    with neighbours(training, [cores], str(bench.data()), task) as found:
        yield found


def inputs(entry: Mapping[str, Any], data: str, count: int = 32) -> list[Mapping[str, Any]]:
    """Distinct requests of the entry's batch, from the test data."""
    from autotune.conversion import arrays

    x = arrays.read(Path(data), "test")
    return [arrays.rows(x, i * entry["batch"], entry["batch"]) for i in range(count)]
