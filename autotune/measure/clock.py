"""Whether this machine's clock is fine enough to tell a latency with."""

from __future__ import annotations

from autotune.errors import MachineError

COARSEST_NS = 100_000
"""A tick of a tenth of a millisecond: calls would have to be timed in groups of milliseconds."""


def fine_enough(overhead_ns: int) -> int:
    """``overhead_ns`` as it came in: what two readings of the clock cost, or its tick.

    Raises:
        MachineError: That is more than ``COARSEST_NS``.
    """
    if overhead_ns > COARSEST_NS:
        raise MachineError(
            f"the clock is too coarse to measure latencies: it tells no less than "
            f"{overhead_ns / 1e6:.2g} ms, {COARSEST_NS / 1e6:g} ms is the most",
            place="time.perf_counter_ns",
            remedy="take a finer clock source for this machine (on Linux tsc, or what the "
            "hypervisor offers), or measure on another one",
        )
    return overhead_ns
