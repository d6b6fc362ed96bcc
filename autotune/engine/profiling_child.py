"""The profiling process: pins itself, times requests, then runs such requests under the profiler.

``engine.profiling`` starts one for every profile (``python -m autotune.engine.profiling_child`` and
the request's file).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.engine.child import INPUTS, die_with, take

if TYPE_CHECKING:
    from autotune.contracts import Arrays
    from autotune.profile import Profile

PART_S = 0.35
"""How long requests are timed, first without the profiler and then with it."""
FEWEST, MOST = 8, 200
"""Requests that are profiled."""


def main(path: str) -> None:
    """Profile what the request says; the answer is the profile, or the error's words."""
    request = json.loads(Path(path).read_text())
    die_with(request["parent"])
    take(request["cores"], ahead=request["ahead"])
    from autotune.errors import AutotuneError

    try:
        answer = _profile(request).record()
    except (AutotuneError, ValueError, RuntimeError, MemoryError) as error:
        words = " ".join(str(error).split())[:500]
        answer = {"error": f"{type(error).__name__}: {words}"}
    Path(request["answer"]).write_text(json.dumps(answer))


def _profile(request: Mapping[str, Any]) -> Profile:
    from autotune import plugins
    from autotune.measure import reference

    backend: Any = plugins.load("backends", request["backend"])
    batch, threads = int(request["batch"]), int(request["threads"])
    opened = Path(request["artifact"]), request["settings"], batch, threads
    inputs = _inputs(Path(request["data"]), batch)
    with backend.open(*opened) as session:
        bare_ms = _bare_ms(session.run, inputs)
    count = max(FEWEST, min(MOST, round(PART_S * 1e3 / bare_ms)))
    requests = [inputs[i % len(inputs)] for i in range(count)]
    before, began = reference.waited_ns(), time.perf_counter_ns()
    profile: Profile = backend.profile(*opened, requests)
    waited, took = reference.waited_ns(), time.perf_counter_ns() - began
    share = None if before is None or waited is None else max(0, waited - before) / took
    return replace(profile, bare_ms=bare_ms, waited=share)


def _inputs(data: Path, batch: int) -> list[Arrays]:
    """Distinct requests, which are rotated."""
    from autotune.conversion import arrays

    x = arrays.read(data, "test", limit=INPUTS * batch)
    count = max(16, min(INPUTS, len(next(iter(x.values()))) // batch))
    return [arrays.rows(x, i * batch, batch) for i in range(count)]


def _bare_ms(run: Any, inputs: Sequence[Arrays]) -> float:
    """The p50 of requests without the profiler."""
    import numpy as np

    from autotune.measure.loop import LoopSettings, time_calls

    settings = LoopSettings(warmup_max_s=PART_S, min_calls=FEWEST, min_s=PART_S, max_s=PART_S)
    timing = time_calls(lambda i: run(inputs[i % len(inputs)]), settings=settings)
    return float(np.median(timing.samples_ns)) / 1e6


if __name__ == "__main__":
    main(sys.argv[1])
