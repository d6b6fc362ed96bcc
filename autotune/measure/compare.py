"""Callables timed against each other in turn: drift meets all of them (measurement.md, 4)."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.measure.blocks import (
    LEAST_OVERHEADS,
    Call,
    Samples,
    clock_overhead_ns,
    collector_off,
    take,
)
from autotune.measure.statistics import block_bootstrap
from autotune.trial import Estimate

Floats = NDArray[np.float64]

LEAST_PAIRS = 6
"""Fewer pairs of blocks cannot give a 95 % interval of a median."""
_LEAST_CALLS = 5
_MOST_CALLS = 100_000


@dataclass(frozen=True, eq=False)
class Comparison:
    """How two callables compare.

    Attributes:
        ratio: The latency of ``a`` over that of ``b`` with its 95 % interval; above 1, ``b`` is the
            faster one. The median over the pairs of blocks.
        a_ms, b_ms: The median latency of every block, shape (pairs,), in the order taken.
        order: Which of a pair came first, ``a`` or ``b``.
    """

    ratio: Estimate
    a_ms: Floats
    b_ms: Floats
    order: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Interleaved:
    """What callables took in turn.

    Attributes:
        medians_ms: The median latency of every block, shape (callables, rounds).
        order: Who came when, in each round: places among the callables.
    """

    medians_ms: Floats
    order: tuple[tuple[int, ...], ...]

    def ratio(self, one: int, two: int) -> Estimate:
        """The latency of ``one`` over that of ``two``: the median over the rounds.

        With its 95 % interval by a block bootstrap; above 1, ``two`` is the faster one.
        """
        ratios = self.medians_ms[one] / self.medians_ms[two]
        return block_bootstrap(ratios, lambda r: float(np.median(r)), seed=0)


def compare(
    a: Call,
    b: Call,
    *,
    pairs: int = 15,
    block_s: float = 0.1,
    seed: int = 0,
) -> Comparison:
    """Time ``a`` and ``b`` in interleaved blocks and tell the ratio of their latencies.

    Two measurements one after the other differ by what the machine did in between; here that hits
    both blocks of a pair alike. Which comes first in a pair is drawn anew. In three lines::

        from autotune.measure import compare
        found = compare(lambda i: old(x[i % 16]), lambda i: new(x[i % 16]))
        print(found.ratio)  # Estimate(value=2.1, low=2.08, high=2.13): the new one is faster

    Args:
        a: Handles request ``i`` and blocks until it is done; ``i`` counts up from 0.
        b: The other one.
        pairs: How often each has its turn, ``LEAST_PAIRS`` or more.
        block_s: How long a turn lasts, in seconds; five calls at least. A first turn of each warms
            it up and is not counted.
        seed: Of the order.

    Raises:
        ValueError: Fewer pairs than an interval needs, or turns of no length.
    """
    if pairs < LEAST_PAIRS or not block_s > 0:
        raise ValueError(
            f"a comparison needs {LEAST_PAIRS} pairs or more of blocks above 0 s, not {pairs} of"
            f" {block_s:g} s"
        )
    found = interleave([a, b], rounds=pairs, block_s=block_s, seed=seed)
    a_ms, b_ms = found.medians_ms
    return Comparison(found.ratio(0, 1), a_ms, b_ms, tuple("ab"[turn[0]] for turn in found.order))


def interleave(
    calls: Sequence[Call], *, rounds: int = 15, block_s: float = 0.1, seed: int = 0
) -> Interleaved:
    """Time any number of callables in turn, each round in an order drawn anew.

    Args:
        calls: Each handles request ``i`` and blocks until it is done; ``i`` counts up from 0.
        rounds: How often each has its turn.
        block_s: How long a turn lasts, in seconds; five calls at least. A first turn of each warms
            it up and is not counted.
        seed: Of the orders.

    Raises:
        ValueError: There is no callable, or no round, or turns of no length.
    """
    if not calls or rounds < 1 or not block_s > 0:
        raise ValueError(
            "turns need a callable, a round and a time above 0 s, not"
            f" {len(calls)}, {rounds} and {block_s:g} s"
        )
    rng = random.Random(seed)
    turns = [_Turns(call, block_s) for call in calls]
    order = tuple(tuple(rng.sample(range(len(turns)), len(turns))) for _ in range(rounds))
    with collector_off():
        for turn in turns:
            turn.warm_up()
        for places in order:
            for place in places:
                turns[place].take()
    return Interleaved(np.array([turn.medians_ms for turn in turns]), order)


class _Turns:
    """The turns of one callable."""

    def __init__(self, call: Call, seconds: float) -> None:
        self.medians_ms: list[float] = []
        self._call = call
        self._seconds = seconds
        self._made = 0
        self._group = 1

    def warm_up(self) -> None:
        """A turn that is not counted; it tells how many calls one reading of the clock is for."""
        typical_ms = self._turn()
        self._group = max(1, math.ceil(LEAST_OVERHEADS * clock_overhead_ns() / (typical_ms * 1e6)))

    def take(self) -> None:
        """A turn, its median kept."""
        self.medians_ms.append(self._turn())

    def _turn(self) -> float:
        self._call(self._made)  # not timed: what the other left in the caches is not its doing
        self._made += 1
        end = time.perf_counter_ns() + round(self._seconds * 1e9)
        least = self._some(_LEAST_CALLS, math.inf)
        rest = self._some(_MOST_CALLS, end) if time.perf_counter_ns() < end else least[:0]
        return float(np.median(np.concatenate([least, rest]))) / 1e6

    def _some(self, most: int, end: float) -> Samples:
        samples = take(self._call, self._made, most, self._group, end)
        self._made += len(samples) * self._group
        return samples
