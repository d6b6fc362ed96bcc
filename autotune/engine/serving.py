"""A model behind a dynamic batcher: sessions of a few fixed sizes, batches filled up to the next.

Runtimes are opened for a fixed batch, which their fastest kernels want. So a server holds a session
for 1, 2, 4, ... samples and for its largest batch, and fills a batch up to the next of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.contracts import Backend, Session
from autotune.conversion import arrays
from autotune.space import Settings

if TYPE_CHECKING:
    from autotune.contracts import Arrays, Floats

    Run = Callable[[Arrays], Floats]


def sizes(max_batch: int) -> tuple[int, ...]:
    """The batches that sessions are opened for: the powers of two below ``max_batch``, and it.

    Raises:
        ValueError: ``max_batch`` is less than one.
    """
    if max_batch < 1:
        raise ValueError(f"max_batch is 1 or more, not {max_batch}")
    return (*(2**power for power in range((max_batch - 1).bit_length())), max_batch)


@contextmanager
def opened(
    backend: Backend, artifact: Path, settings: Settings, max_batch: int, threads: int
) -> Iterator[Run]:
    """The artifact ready for batches of 1 to ``max_batch`` samples; ``run`` answers one of them."""
    with ExitStack() as stack:
        yield filled_up(
            {
                size: stack.enter_context(backend.open(artifact, settings, size, threads))
                for size in sizes(max_batch)
            }
        )


def filled_up(sessions: Mapping[int, Session]) -> Run:
    """A function that answers a batch of any size up to the largest session's.

    It is filled up with its own samples, from the first on: ranges that a runtime finds over the
    whole batch stay what they were. Choosing and filling up is part of the service.
    """
    steps = sorted(sessions)

    def run(batch: Arrays) -> Floats:
        count = len(next(iter(batch.values())))
        size = steps[bisect_left(steps, count)]
        if size == count:
            return sessions[size].run(batch)
        return sessions[size].run(arrays.rows(batch, 0, size))[:count]

    return run
