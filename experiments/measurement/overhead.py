"""What measuring costs: a call's overhead, how soon a clear loser is dropped, a model of 2 ms."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from lanes import bench, fresh, measure, name
from record import publish

from autotune.engine.plan import Effort
from autotune.measure import LoopSettings, block_bootstrap, blocks, reference, time_calls

STEP = Effort()
RACE_CALLS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="blocks for the overhead")
    parser.add_argument("--repeats", type=int, default=20, help="of each measurement")
    parser.add_argument("--store", type=Path, help="keep the artifacts here")
    options = parser.parse_args()
    with bench(options.store) as space:
        target = space.spec.targets[0]
        rows = [fresh(target, overhead, options.pairs)]
        rows += [fresh(target, loser, ms, options.repeats) for ms in (0.2, 2.0, 10.0)]
        rows.append(fresh(target, search_step, options.repeats))
        near = {"backend": "onnxruntime", "batch": 4}
        found = [measure(space, near) for _ in range(options.repeats)]
        seconds = [one["measuring_seconds"] for one in found]
        p50 = float(np.median([one["latency_p50_ms"] for one in found]))
        rows.append(row(f"{name(near)}, p50 {p50:.2g} ms, in a run", seconds, 1.5, "s"))
    publish(__file__, "What measuring costs", rows)


def row(what: str, found: list[float], most: float, unit: str) -> dict[str, object]:
    """The median, with its interval, and the worst of what was found."""
    told = block_bootstrap(np.array(found), lambda x: float(np.median(x)), seed=0)
    return {
        "what": what,
        "median": told.value,
        "95 %": f"{told.low:.4g} to {told.high:.4g}",
        "worst": max(found),
        "at most": most,
        "unit": unit,
        "reached": told.value <= most,
        "measured": len(found),
    }


def overhead(pairs: int, calls: int = 20_000) -> dict[str, object]:
    """The instrument's loop over a bare loop around the same call, block by block in turn."""
    nothing = [0] * calls

    def call(i: int) -> int:
        return nothing[i]

    def bare() -> float:
        begin = time.perf_counter_ns()
        for i in range(calls):
            call(i)
        return (time.perf_counter_ns() - begin) / calls / 1e3

    def timed() -> float:
        begin = time.perf_counter_ns()
        blocks.take(call, 0, calls, 1, float("inf"))
        return (time.perf_counter_ns() - begin) / calls / 1e3

    with blocks.collector_off():
        found = [timed() - bare() for _ in range(pairs)]
    return row("a call of the closed loop, above a bare loop", found, 1.0, "us")


def spin(milliseconds: float) -> Callable[[int], None]:
    """A model that always takes as long."""
    clock, length = time.perf_counter_ns, round(milliseconds * 1e6)

    def call(_: int) -> None:
        end = clock() + length
        while clock() < end:
            pass

    return call


def loser(milliseconds: float, repeats: int) -> dict[str, object]:
    """Beyond its first call and 30 more: how long a model twice too slow is measured.

    It is not dropped on what was disturbed, which then shows as a long time.
    """
    settings = _settings(give_up_above_ms=milliseconds / 2)
    watch, found = reference.watch(), []
    for _ in range(repeats):
        timing = time_calls(spin(milliseconds), settings=settings, watch=watch)
        found.append(1e3 * timing.seconds - (RACE_CALLS + 1) * milliseconds)
    return row(f"a loser of {milliseconds:g} ms dropped, beyond its 30 calls", found, 50.0, "ms")


def search_step(repeats: int) -> dict[str, object]:
    watch = reference.watch()
    found = [
        time_calls(spin(2.0), settings=_settings(), watch=watch).seconds for _ in range(repeats)
    ]
    return row("a model of 2 ms to a search step's precision", found, 1.5, "s")


def _settings(**more: float) -> LoopSettings:
    """A search step's, with more."""
    effort = dataclasses.asdict(STEP)
    effort.pop("timeout_s")
    return LoopSettings(**{**effort, **more})


if __name__ == "__main__":
    main()
