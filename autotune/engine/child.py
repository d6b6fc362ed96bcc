"""The measuring process: pins itself, loads one artifact, times it, writes what it saw, ends.

``engine.lane`` starts one for every measurement (``python -m autotune.engine.child`` and the
request's file), so that no thread pool or allocator of an earlier model is left in it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autotune.measure.loop import Timing

_PR_SET_PDEATHSIG = 1
CONSISTENT = 1.25
"""A mean so many times the median says that something else ran on the lane."""
INPUTS = 64
"""Distinct batches that are rotated; measurement.md asks for at least 16."""


def main(path: str) -> None:
    """Measure what the request says; the answer holds columns and facts, or the error's words."""
    request = json.loads(Path(path).read_text())
    die_with(request["parent"])
    os.sched_setaffinity(0, request["cores"])
    from autotune.errors import AutotuneError

    try:
        answer = _measure(request)
    except (AutotuneError, ValueError, RuntimeError, MemoryError) as error:
        words = " ".join(str(error).split())[:500]
        answer = {"error": f"{type(error).__name__}: {words}"}
    Path(request["answer"]).write_text(json.dumps(answer))


def die_with(parent: int) -> None:
    """Let the kernel end this process when the worker that started it ends, killed or not.

    Otherwise it would go on measuring on a lane that is no longer its own.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        sys.exit("the worker that asked for this measurement is gone")


def _measure(request: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from autotune import plugins
    from autotune.conversion import arrays
    from autotune.measure import loop, memory, reference, statistics

    kept = Path(request["reference"])
    watch = reference.watch(kept)
    batch, threads = int(request["batch"]), int(request["threads"])
    x = arrays.read(Path(request["data"]), "test", limit=INPUTS * batch)
    count = max(16, min(INPUTS, len(next(iter(x.values()))) // batch))
    inputs = [arrays.rows(x, i * batch, batch) for i in range(count)]
    backend = plugins.load("backends", request["backend"])
    for library in backend.libraries:
        _import(library)
    before = memory.rss_bytes() if memory.reset_peak() else memory.peak_rss_bytes()
    start = time.perf_counter()
    with backend.open(Path(request["artifact"]), request["settings"], batch, threads) as session:
        run = session.run
        load_s = time.perf_counter() - start
        timing = loop.time_calls(
            lambda i: run(inputs[i % count]), settings=_settings(request["effort"]), watch=watch
        )
    peak = max(0, memory.peak_rss_bytes() - before)
    np.save(request["samples"], timing.samples_ns)
    reference.remember(kept, [block.beside.after_ms for block in timing.blocks if block.beside])
    columns = statistics.latency_columns(timing.samples_ns, batch)
    return {
        "columns": {
            **{k: {"value": e.value, "low": e.low, "high": e.high} for k, e in columns.items()},
            "memory_peak_bytes": {"value": peak},
            "load_seconds": {"value": load_s + timing.first_call_ns / 1e9},
        },
        **timing.facts(),
        "noisy": timing.noisy or not _consistent(timing),
        "cores": list(request["cores"]),
    }


def _consistent(timing: Timing) -> bool:
    """Whether batch over p50 and samples per second agree (measurement.md, section 5)."""
    import numpy as np

    samples = timing.samples_ns
    return bool(samples.mean() <= CONSISTENT * np.median(samples))


def _settings(effort: dict[str, Any]) -> Any:
    from autotune.measure.loop import LoopSettings

    return LoopSettings(**effort)


def _import(distribution: str) -> None:
    """Import a runtime before its memory is counted, so that only the model's is."""
    import importlib

    importlib.import_module(distribution.replace("-", "_"))


if __name__ == "__main__":
    main(sys.argv[1])
