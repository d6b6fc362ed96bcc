"""The measuring process: pins itself, loads one artifact, times it, writes what it saw, ends.

``engine.lane`` starts one for every measurement (``python -m autotune.engine.child`` and the
request's file), so that no thread pool or allocator of an earlier model is left in it.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from autotune.contracts import Arrays, Floats
    from autotune.engine.scenarios import Seen
    from autotune.measure.reference import Watch

    Run = Callable[[Arrays], Floats]

_PR_SET_PDEATHSIG = 1
_FIRST = -20
INPUTS = 64
"""Distinct batches that are rotated; measurement.md asks for at least 16."""


def main(path: str) -> None:
    """Measure what the request says; the answer holds columns and facts, or the error's words."""
    request = json.loads(Path(path).read_text())
    die_with(request["parent"])
    take(request["cores"], ahead=request["ahead"])
    from autotune.errors import AutotuneError

    try:
        answer = _measure(request)
    except (AutotuneError, ValueError, RuntimeError, MemoryError) as error:
        words = " ".join(str(error).split())[:500]
        answer = {"error": f"{type(error).__name__}: {words}"}
    Path(request["answer"]).write_text(json.dumps(answer))


def take(cores: Sequence[int], ahead: bool = True) -> None:
    """Begin to measure: this process, which has one thread yet, keeps to the lane's cores.

    It also keeps what is freed in it (``measure.hold_heap``), and goes ahead of what else is there.
    A kernel has work of its own and puts it where it likes; a daemon that runs for 2 ms twice a
    second costs the p99 of a model of 1 ms more than anything a search could win. With ``ahead``,
    and where this user may, the process has the highest of the normal priorities (setpriority(2)):
    what comes then waits, or goes to another core.
    """
    os.sched_setaffinity(0, cores)
    if ahead:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, _FIRST)
    from autotune.measure.memory import hold_heap

    hold_heap()


def die_with(parent: int) -> None:
    """Let the kernel end this process when the worker that started it ends, killed or not.

    Otherwise it would go on measuring on a lane that is no longer its own.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        sys.exit("the worker that asked for this measurement is gone")


def _measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Load the model, see it under its scenario, look whether it stays as it is; the answer."""
    import numpy as np

    from autotune.engine import usage
    from autotune.measure import blocks, memory, reference
    from autotune.measure.clock import fine_enough

    fine_enough(blocks.clock_overhead_ns())
    kept = Path(request["reference"])
    watch = reference.watch(kept)
    scenario, inputs = _scenario(request), _inputs(request)
    before, gpu = _baseline(request), usage.begin(request["settings"])
    start = time.perf_counter()
    with _opened(request, scenario, inputs) as (run, firsts):
        load_s = time.perf_counter() - start
        answers = [np.array(run(batch)) for batch in firsts]
        first_s = time.perf_counter() - start - load_s
        seen = _see(run, inputs, request, scenario, watch)
        peak = max(0, memory.peak_rss_bytes() - before)
        steady, warnings = _steady(run, inputs, firsts, answers, seen)
        device = usage.columns(gpu, run, inputs, request["cores"])
    np.save(request["samples"], seen.samples_ns)
    reference.remember(kept, seen.bursts_ms)
    return {
        "columns": {
            **{
                k: {"value": e.value, "low": e.low, "high": e.high} for k, e in seen.columns.items()
            },
            "memory_peak_bytes": {"value": peak},
            "load_seconds": {"value": load_s + first_s},
            **device,
        },
        **seen.facts,
        **steady,
        "first_call_ms": first_s * 1e3,
        "scenario": scenario["kind"],
        "warnings": [*seen.warnings, *warnings],
        "cores": list(request["cores"]),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


def _scenario(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the request says of its load; nothing said is one request after the other.

    Raises:
        ValueError: There is no such scenario.
    """
    scenario: Mapping[str, Any] = request.get("scenario") or {"kind": "single_stream"}
    if scenario["kind"] not in ("single_stream", "offline", "server"):
        raise ValueError(
            f"no scenario '{scenario['kind']}': known are single_stream, offline, server"
        )
    return scenario


def _inputs(request: Mapping[str, Any]) -> list[dict[str, NDArray[Any]]]:
    """Distinct requests, which are rotated; a server's are of one sample each."""
    from autotune.conversion import arrays

    batch = 1 if _scenario(request)["kind"] == "server" else int(request["batch"])
    x = arrays.read(Path(request["data"]), "test", limit=INPUTS * batch)
    count = max(16, min(INPUTS, len(next(iter(x.values()))) // batch))
    return [arrays.rows(x, i * batch, batch) for i in range(count)]


def _baseline(request: Mapping[str, Any]) -> int:
    """Resident memory with the bare runtime imported, before any model."""
    import importlib

    from autotune import plugins
    from autotune.measure import memory

    for library in plugins.load("backends", request["backend"]).libraries:
        importlib.import_module(library.replace("-", "_"))
    return memory.rss_bytes() if memory.reset_peak() else memory.peak_rss_bytes()


@contextmanager
def _opened(
    request: Mapping[str, Any], scenario: Mapping[str, Any], inputs: Sequence[Arrays]
) -> Iterator[tuple[Run, list[Arrays]]]:
    """The model ready for the scenario's batches, and a first request for each of its sessions."""
    from autotune import plugins
    from autotune.engine import serving
    from autotune.measure.batcher import assemble

    backend = plugins.load("backends", request["backend"])
    artifact, settings = Path(request["artifact"]), request["settings"]
    threads = int(request["threads"])
    if scenario["kind"] == "server":
        most = int(scenario["max_batch"])
        firsts = [assemble(inputs, 0, size) for size in serving.sizes(most)]
        with serving.opened(backend, artifact, settings, most, threads) as run:
            yield run, firsts
    else:
        batch = int(request["batch"])
        with backend.open(artifact, settings, batch, threads) as session:
            yield session.run, [inputs[0]]


def _see(
    run: Run,
    inputs: Sequence[Arrays],
    request: Mapping[str, Any],
    scenario: Mapping[str, Any],
    watch: Watch,
) -> Seen:
    """What the scenario sees; the effort's times bound it."""
    from autotune.engine import scenarios
    from autotune.measure.batcher import Batcher
    from autotune.measure.loop import LoopSettings

    settings = LoopSettings(**request["effort"])
    if scenario["kind"] == "server":
        batcher = Batcher(int(scenario["max_batch"]), float(scenario["max_queue_delay_ms"]))
        limit = float(scenario["p99_ms"])
        return scenarios.server(run, inputs, batcher, limit, settings, watch)
    closed = scenarios.flood if scenario["kind"] == "offline" else scenarios.single_stream
    return closed(run, inputs, int(request["batch"]), settings, watch)


def _steady(
    run: Run,
    inputs: Sequence[Arrays],
    firsts: Sequence[Arrays],
    answers: Sequence[Floats],
    seen: Seen,
) -> tuple[dict[str, Any], list[str]]:
    """Whether the model answers as it did at first, and keeps its memory: facts, and warnings."""
    import numpy as np

    from autotune.measure import steady

    facts: dict[str, Any] = {}
    warnings: list[str] = []
    pairs = zip(answers, firsts, strict=True)
    found = [steady.difference(first, np.asarray(run(batch))) for first, batch in pairs]
    differing = [far for far in found if far is not None]
    if differing:
        far = max(differing)
        facts["nondeterministic"] = {"max_abs_diff": far if math.isfinite(far) else None}
        warnings.append(
            f"the same request was answered differently later on: outputs differ by up to {far:.3g}"
        )
    if seen.grown_bytes > steady.SUSPICIOUS_BYTES:
        lost = steady.leak(
            lambda i: run(inputs[i % len(inputs)]),
            seen.typical_s,
            seen.grown_bytes / max(1, seen.calls),
        )
        if lost is not None:
            facts["leak_bytes_per_call"] = lost
            warnings.append(f"memory grows by {lost:,.0f} bytes with every request: it leaks")
    return facts, warnings


if __name__ == "__main__":
    main(sys.argv[1])
