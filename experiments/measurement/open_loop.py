"""The Server scenario on the wall clock: a stall, queueing theory, and what batching is worth.

A model that always takes as long (it watches the clock) serves Poisson arrivals. One call stalls
for 100 ms: every request that it delays must show it; a closed loop shows one. The highest rate
under a limit on the p99 is held against that of an M/D/1 queue. Then a real model: what a dynamic
batcher raises its highest rate by, against what its batch curve predicts for the same search.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

sys.path.insert(0, str(Path(__file__).parents[1]))
from lanes import bench, fresh, inputs, prepare
from record import publish

from autotune import plugins
from autotune.engine import serving
from autotune.measure import LoopSettings, server, time_calls, watch
from autotune.measure.batcher import Batcher, assemble
from autotune.measure.rate import Highest, RateSettings, highest
from autotune.measure.server import Load, Minder, VirtualTime

MS = 1_000_000
STALL_MS, STALLED_CALL = 100.0, 200
_SIMULATED = 20_000
"""Limits that a simulated search lasts."""
BLANK = [{"x": np.full((1, 1), i, dtype=np.float32)} for i in range(16)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for a search against theory")
    parser.add_argument("--batch-seconds", type=float, default=40.0, help="for a real model's")
    parser.add_argument("--max-batch", type=int, nargs="*", default=[4, 16])
    parser.add_argument("--store", type=Path, help="keep the artifacts here")
    options = parser.parse_args()
    with bench(options.store) as space:
        target, data = space.spec.targets[0], str(space.data())
        rows = fresh(target, stalls)
        for services in (5, 10):
            rows.append(fresh(target, theory, 1.0, services, options.seconds))
        for shape in ({}, {"student.width": 8, "student.depth": 1}):
            entry = prepare(space, {"backend": "onnxruntime", **shape})
            for size in options.max_batch:
                rows.append(fresh(target, batching, entry, data, size, options.batch_seconds))
    publish(__file__, "The Server scenario on the wall clock", rows)


def row(what: str, expected: float, seen: float, asked: float, **more: object) -> dict[str, object]:
    """``asked``: how far the ratio may be from 1."""
    ratio = seen / expected if expected else math.nan
    return {
        "what": what,
        "expected": expected,
        "seen": seen,
        "ratio": ratio,
        "within": asked,
        "reached": abs(ratio - 1) <= asked,
        "told": ", ".join(f"{k} {v}" for k, v in more.items()),
    }


# ---- a stall -------------------------------------------------------------------------------------


def stalls(service_ms: float = 2.0, rate_per_s: float = 200.0) -> list[dict[str, object]]:
    load = Load(rate_per_s, 600, seed=0)
    arrivals = server.schedule(load) / MS
    plain = np.full(len(arrivals), service_ms)
    stalled = np.where(np.arange(len(arrivals)) == STALLED_CALL, STALL_MS, service_ms)
    calm, late = latencies(arrivals, plain), latencies(arrivals, stalled)
    seen = server.serve(stalling(service_ms), BLANK, Batcher(), load).latencies_ns / MS
    call = stalling(service_ms)
    settings = LoopSettings(warmup_max_s=0.2, min_calls=len(arrivals), min_s=0.0, max_s=60.0)
    loop = time_calls(lambda i: call(BLANK[i % 16]), settings=settings).samples_ns / MS
    delayed = int((late - calm > service_ms).sum())
    told = {"stall ms": STALL_MS, "rate": rate_per_s}
    return [
        row(
            "requests that a stall delayed, open loop",
            delayed,
            int((seen - calm > service_ms).sum()),
            0.1,
            **told,
        ),
        row("calls that show it, closed loop", 1, int((loop > STALL_MS / 2).sum()), 0.0, **told),
    ]


def stalling(service_ms: float) -> Callable[[object], None]:
    """A model that always takes as long, but for one call."""
    clock, calls = time.perf_counter_ns, [0]

    def run(_: object) -> None:
        end = clock() + round((STALL_MS if calls[0] == STALLED_CALL else service_ms) * MS)
        calls[0] += 1
        while clock() < end:
            pass

    return run


def latencies(
    arrivals_ms: NDArray[np.float64], services_ms: NDArray[np.float64]
) -> NDArray[np.float64]:
    """From arrival to answer in a queue with one server (Lindley 1952)."""
    found, free = np.empty(len(arrivals_ms)), 0.0
    for i, (arrival, service) in enumerate(zip(arrivals_ms, services_ms, strict=True)):
        free = max(free, arrival) + service
        found[i] = free - arrival
    return found


# ---- M/D/1 ---------------------------------------------------------------------------------------


def theory(service_ms: float, services: float, seconds: float) -> dict[str, object]:
    """The highest rate whose p99 is within so many service times, found and by theory."""
    limit_ms = services * service_ms
    run = spin(service_ms)
    settings = RateSettings(max_s=seconds, tolerance=0.01, most_requests=1_000_000)
    found = highest(run, BLANK, Batcher(), limit_ms, settings, minder=Minder(watch()))
    expected = highest_load(services) * 1e3 / service_ms
    return row(
        f"highest rate of {service_ms:g} ms, p99 <= {limit_ms:g} ms, M/D/1",
        expected,
        found.rate_per_s or 0.0,
        0.05,
        **_told(found),
    )


def spin(service_ms: float) -> Callable[[object], None]:
    clock, length = time.perf_counter_ns, round(service_ms * MS)

    def run(_: object) -> None:
        end = clock() + length
        while clock() < end:
            pass

    return run


def waits_at_most(services: float, load: float) -> float:
    """P(wait <= x services) in an M/D/1 queue (Erlang 1909).

    (1 - rho) sum_{n <= x} (rho (n - x))^n / n! e^{-rho (n - x)}; it alternates: for small x only.
    """
    terms = [
        (load * (n - services)) ** n / math.factorial(n) * math.exp(-load * (n - services))
        for n in range(math.floor(services) + 1)
    ]
    return (1 - load) * math.fsum(terms)


def highest_load(services: float) -> float:
    """The load at which the p99 of the latency is so many service times."""
    return float(brentq(lambda load: waits_at_most(services - 1, load) - 0.99, 1e-3, 0.97))


# ---- a batcher -----------------------------------------------------------------------------------


def batching(
    entry: Mapping[str, Any], data: str, max_batch: int, seconds: float
) -> dict[str, object]:
    """What the batcher raises the rate by, and what the batch curve predicts."""
    backend = plugins.load("backends", entry["backend"])
    artifact, settings = Path(entry["artifact"]), entry["settings"]
    with serving.opened(backend, artifact, settings, max_batch, 1) as run:
        curve = {size: mean_ms(run, entry, data, size) for size in serving.sizes(max_batch)}
        limit_ms = 10 * curve[1] + 2 * curve[max_batch]
        sizes = np.array(list(curve))

        def typical(batch: Mapping[str, Any]) -> float:
            size = len(next(iter(batch.values())))
            return curve[int(sizes[np.searchsorted(sizes, size)])]

        ratios, found = [], []
        for work, virtual in ((run, False), (typical, True)):
            pair = [
                served(work, entry, data, Batcher(size), limit_ms, seconds, virtual)
                for size in (1, max_batch)
            ]
            found.append(pair)
            ratios.append((pair[1].rate_per_s or 0.0) / (pair[0].rate_per_s or math.inf))
    alone, batched = found[0]
    return row(
        f"{entry['name']}: batches of {max_batch} over batches of 1, p99 <= {limit_ms:.3g} ms",
        ratios[1],
        ratios[0],
        0.15,
        alone=f"{alone.rate_per_s or 0:.4g}/s",
        batched=f"{batched.rate_per_s or 0:.4g}/s",
        curve=" ".join(f"{size}:{ms:.3g}" for size, ms in curve.items()),
    )


def mean_ms(run: Callable[[Any], object], entry: Mapping[str, Any], data: str, size: int) -> float:
    """A batch's mean time in the closed loop, put together of single samples as a server does."""
    singles = inputs({**entry, "batch": 1}, data)
    settings = LoopSettings(min_s=1.0, max_s=3.0)
    timing = time_calls(
        lambda i: run(assemble(singles, i * size, size)), settings=settings, watch=watch()
    )
    return float(timing.samples_ns.mean()) / MS


def served(
    work: Callable[[Any], Any],
    entry: Mapping[str, Any],
    data: str,
    batcher: Batcher,
    limit_ms: float,
    seconds: float,
    virtual: bool,
) -> Highest:
    """The highest rate: of a model, or, in virtual time, of one that takes what ``work`` says."""
    requests = inputs({**entry, "batch": 1}, data)
    if not virtual:
        settings = RateSettings(max_s=seconds)
        return highest(work, requests, batcher, limit_ms, settings, minder=Minder(watch()))
    settings = RateSettings(max_s=_SIMULATED * limit_ms / 1e3)
    clock = VirtualTime()

    def run(batch: Mapping[str, Any]) -> None:
        clock.now_ns += round(work(batch) * MS)

    return highest(run, requests, batcher, limit_ms, settings, clock.clock)


def _told(found: Highest) -> dict[str, object]:
    upper = found.fails_at_per_s or math.inf
    return {
        "fails at": f"{upper:.4g}",
        "ended": found.ended,
        "probes": len(found.probes),
    }


if __name__ == "__main__":
    main()
