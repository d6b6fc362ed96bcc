"""What an NVIDIA GPU did during some requests, whichever library asked it to, as a ``Profile``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from autotune.errors import StageError
from autotune.measure.spans import WARM_UP, walls_ms
from autotune.profile import Operation, Profile

if TYPE_CHECKING:
    from autotune.contracts import Arrays

MOST = 50
"""Requests that are profiled: the profiler keeps every kernel of them."""


def profile(run: Callable[[Arrays], object], requests: Sequence[Arrays]) -> Profile:
    """The mean over the requests of the GPU's own time for each kernel and each copy.

    PyTorch's profiler reads CUPTI, to which the driver tells all that the process has it do: other
    libraries' kernels, and those of CUDA graphs, are seen as well.

    Args:
        run: Runs one request and waits for its end.
        requests: What to run.

    Raises:
        StageError: PyTorch is not installed or cannot see a GPU, or nothing ran on it.
    """
    try:
        from torch.profiler import ProfilerActivity, supported_activities
        from torch.profiler import profile as watching
    except ImportError as error:
        raise StageError(f"{_WANTED}; it is not installed") from error
    if ProfilerActivity.CUDA not in supported_activities():  # type: ignore[no-untyped-call]
        raise StageError(f"{_WANTED}; the one that is installed sees none")
    walls_ms(run, requests[:WARM_UP])
    with watching(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        walls = walls_ms(run, requests[:MOST])
    events = (e for e in seen.events() if e.device_type.name == "CUDA")
    return summed(events, walls)


_WANTED = "what a GPU does is seen by PyTorch's profiler, which takes a build of torch with CUDA"


def summed(events: Iterable[Any], walls: Sequence[float]) -> Profile:
    """The kernels and copies of requests that took ``walls`` milliseconds, the first seen first.

    Args:
        events: PyTorch's ``FunctionEvent``, of the GPU alone; times are in microseconds. Spans
            that users name hold kernels, and are left out.
        walls: One for each request.

    Raises:
        StageError: There is no event.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for event in events:
        if not event.is_user_annotation:
            found[event.name].append(event.time_range.elapsed_us() / 1e3)
    if not found:
        raise StageError("PyTorch's profiler saw nothing run on the GPU")
    count = len(walls)
    rows = tuple(
        Operation(name, "", "", sum(times) / count, len(times) / count)
        for name, times in found.items()
    )
    return Profile(rows, sum(walls) / count, count)
