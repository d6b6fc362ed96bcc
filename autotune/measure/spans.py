"""Spans of time as profilers write them, and the requests among which they are counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from autotune.contracts import Arrays

WARM_UP = 5
"""Requests before those that are profiled."""


@dataclass(frozen=True)
class Span:
    """Something that began and ended on one thread.

    Attributes:
        word: What it was.
        start, end: In any unit of time, of one clock.
        about: What its profiler told beside that.
    """

    word: str
    start: float
    end: float
    about: Any = None

    @property
    def length(self) -> float:
        return self.end - self.start


def outermost(
    spans: Iterable[Span], counts: Callable[[Span], bool] = lambda _: True
) -> Iterator[Span]:
    """Of the spans that count, those that do not lie within another one, by their start."""
    end = float("-inf")
    for span in sorted(filter(counts, spans), key=lambda span: (span.start, -span.end)):
        if span.start >= end:
            end = span.end
            yield span


def within(spans: Sequence[Span], frames: Sequence[Span]) -> list[list[Span]]:
    """The spans that begin within each of the frames, which do not overlap; both by their start."""
    starts = np.array([span.start for span in spans])
    places = [np.searchsorted(starts, [frame.start, frame.end]) for frame in frames]
    return [list(spans[low:high]) for low, high in places]


def middle(walls: Sequence[float]) -> list[int]:
    """Where the middle half of the requests lies, by their time: what disturbed others is left out.

    The mean of these is close to the p50, and, other than a median, it adds up over operations.
    """
    order = np.argsort(np.asarray(walls), kind="stable")
    quarter = len(order) // 4
    return [int(i) for i in order[quarter : len(order) - quarter]]


def walls_ms(run: Callable[[Arrays], object], requests: Iterable[Arrays]) -> list[float]:
    """The wall time of each request, one after the other."""
    found = []
    for request in requests:
        start = time.perf_counter_ns()
        run(request)
        found.append((time.perf_counter_ns() - start) / 1e6)
    return found
