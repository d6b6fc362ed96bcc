"""The dynamic batcher: which waiting requests go together, and when they go."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from autotune.contracts import Arrays


@dataclass(frozen=True)
class Batcher:
    """The rule by which requests wait for each other (measurement.md, section 3).

    A batch goes once it is full, or once its oldest request has waited as long as allowed,
    whichever is first, and never before the server is free; it then takes all that wait, oldest
    first. The rule looks only at requests that have arrived: it does not know who comes next.

    Attributes:
        max_batch: The most requests in one batch; 1: none waits for another.
        max_queue_delay_ms: How long a request may be kept for company; 0: a free server takes what
            is there.

    Raises:
        ValueError: A batch of less than one, or a delay that is negative or endless.
    """

    max_batch: int = 1
    max_queue_delay_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"max_batch is 1 or more, not {self.max_batch}")
        if not 0 <= self.max_queue_delay_ms < math.inf:
            delay = self.max_queue_delay_ms
            raise ValueError(f"max_queue_delay_ms is a time of 0 ms or more, not {delay}")

    def ready_ns(self, arrivals_ns: Sequence[int], first: int) -> int:
        """When the batch whose oldest request is ``first`` may go, were the server free.

        Args:
            arrivals_ns: When each request arrives, rising.
            first: A place in it.
        """
        oldest = arrivals_ns[first] + round(self.max_queue_delay_ms * 1e6)
        last = first + self.max_batch - 1
        return min(oldest, arrivals_ns[last]) if last < len(arrivals_ns) else oldest

    def size(self, arrivals_ns: Sequence[int], first: int, now_ns: int) -> int:
        """How many requests the batch takes that goes now; 0 where ``first`` has not arrived."""
        last = min(first + self.max_batch, len(arrivals_ns))
        return bisect_right(arrivals_ns, now_ns, first, last) - first


def assemble(samples: Sequence[Arrays], first: int, size: int) -> Arrays:
    """The batch of requests ``first`` to ``first + size - 1``, whose samples rotate.

    Args:
        samples: Real samples, one request each: by input name, of shape (1, ...).
        first: The number of the oldest request; request i brings sample i modulo their count.
        size: Requests in the batch, 1 or more.

    Returns:
        By input name, shape (size, ...). A lone request is passed on as it came, not copied.
    """
    chosen = [samples[i % len(samples)] for i in range(first, first + size)]
    if size == 1:
        return chosen[0]
    return {name: np.concatenate([sample[name] for sample in chosen]) for name in chosen[0]}
