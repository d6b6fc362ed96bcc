"""OpenVINO's counters of what each node took, read as a ``Profile``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.measure.spans import walls_ms
from autotune.profile import Operation, Profile

if TYPE_CHECKING:
    from autotune.contracts import Arrays

DISTURBED = 1.1
"""Mean over median of the requests from which on something else ran beside them."""


def profile(
    request: Any,
    run: Callable[[Arrays], object],
    requests: Sequence[Arrays],
    precisions: Mapping[str, str],
) -> tuple[Profile, bool]:
    """The mean over all requests, and whether they were left undisturbed.

    The counters hold each node's mean since the model was loaded, in whole microseconds. What the
    first request took, which prepares the kernels, is taken out of it.

    Args:
        request: The inference request, fresh, of a model compiled with ``PERF_COUNT``.
        run: Runs one request through it.
        requests: What to run.
        precisions: The word for what a node computes in, by its name.
    """
    run(requests[0])
    first = _means_us(request)
    walls = walls_ms(run, requests)
    last = _means_us(request)
    count = len(walls)
    rows = []
    for info in request.get_profiling_info():
        name = info.node_name
        if name in last:
            spent_us = max(0.0, last[name] * (count + 1) - first.get(name, 0.0)) / count
            precision = precisions.get(name, "")
            rows.append(Operation(info.node_type, name, precision, spent_us / 1e3))
    mean = float(np.mean(walls))
    return Profile(tuple(rows), mean, count), mean <= DISTURBED * float(np.median(walls))


def _means_us(request: Any) -> dict[str, float]:
    """The mean time of every node that runs."""
    return {
        info.node_name: info.real_time.total_seconds() * 1e6
        for info in request.get_profiling_info()
        if info.status == info.Status.EXECUTED
    }
