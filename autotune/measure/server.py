"""The Server scenario: requests come at random and do not wait for answers (section 3)."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autotune.measure.batcher import Batcher, assemble
from autotune.measure.blocks import LEAST_CALM, collector_off
from autotune.measure.loop import BLOCK_S, RACING_CALLS
from autotune.measure.reference import Disturbance, Mark, Watch

if TYPE_CHECKING:
    from autotune.contracts import Arrays

Run = Callable[["Arrays"], object]
Times = NDArray[np.int64]
_Notes = list[tuple[int, int, int]]

_SPIN_NS = 1_000_000
"""Sleeping ends so long before it is time: the kernel wakes a process late, not early."""


BLOCK_NS = round(1e9 * BLOCK_S)
_PATIENCE = 20
"""Among fewer blocks few may be undisturbed by chance."""
_ROW = 100
"""So often one block is served again: what it asks for may itself be what the reference sees."""


def wait_until(moment_ns: int) -> None:
    """Wait until ``time.perf_counter_ns`` says ``moment_ns``: asleep first, then on the watch."""
    clock = time.perf_counter_ns
    left = moment_ns - clock()
    if left > _SPIN_NS:
        time.sleep((left - _SPIN_NS) / 1e9)
    while clock() < moment_ns:
        pass


@dataclass(frozen=True)
class Clock:
    """Time in ns, and how to let it pass: the wall clock, unless another is given."""

    now: Callable[[], int] = time.perf_counter_ns
    wait_until: Callable[[int], None] = wait_until


class VirtualTime:
    """Time that passes only where someone says so: a queue is simulated as fast as it computes."""

    def __init__(self) -> None:
        self.now_ns = 0

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now_ns, self._wait_until)

    def _wait_until(self, moment_ns: int) -> None:
        self.now_ns = max(self.now_ns, moment_ns)


@dataclass(frozen=True)
class GiveUp:
    """End as soon as more than ``allowed`` latencies are above ``above_ms``."""

    above_ms: float
    allowed: int


@dataclass(frozen=True)
class Load:
    """What is asked of the server.

    Attributes:
        rate_per_s: Requests per second, on average.
        requests: The most that are sent.
        seconds: How long they are sent; those sent are still answered afterwards, up to a deadline.
        seed: Of their arrivals.
        give_up: When the answer is known early; None: every request is answered.

    Raises:
        ValueError: A rate, a count or a time that is not above zero.
    """

    rate_per_s: float
    requests: int
    seconds: float = math.inf
    seed: int = 0
    give_up: GiveUp | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate_per_s < math.inf:
            raise ValueError(f"rate_per_s is a number above 0, not {self.rate_per_s}")
        if self.requests < 1:
            raise ValueError(f"requests is 1 or more, not {self.requests}")
        if not self.seconds > 0:
            raise ValueError(f"seconds is above 0, not {self.seconds}")


@dataclass(frozen=True, eq=False)
class ServerRun:
    """What the requests saw.

    Attributes:
        latencies_ns: From the scheduled arrival to the answer, in order of arrival, shape (n,).
        batch_sizes: Requests in each batch, in order, shape (batches,).
        late_ns: How much later than it could a batch began, the instrument's own fault and charged
            to the latencies nevertheless, shape (batches,).
        unanswered: Requests that had arrived and were not answered when the run ended.
        pressed_share: The share of batches that were full already when the server came free; near 1
            it cannot keep up.
        seconds: Wall time.
        waiting_ns: How long those unanswered had waited, where the deadline ended the run, shape
            (unanswered,); where it gave up, nobody.
    """

    latencies_ns: Times
    batch_sizes: Times
    late_ns: Times
    unanswered: int
    pressed_share: float
    seconds: float
    waiting_ns: Times = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def facts(self) -> Mapping[str, Any]:
        """All but the samples, as JSON values."""
        return {
            "answered": len(self.latencies_ns),
            "unanswered": self.unanswered,
            "mean_batch": float(self.batch_sizes.mean()),
            "late_p99_ms": float(np.quantile(self.late_ns, 0.99)) / 1e6,
            "pressed_share": self.pressed_share,
            "serving_seconds": self.seconds,
        }


class Minder:
    """Looks at the machine between blocks of a server's time; a disturbed block is served again.

    Between two batches the server's time can stand still, and go back: the requests of a disturbed
    block come once more, to the queue as it was before it. That is given up for good where too few
    blocks are undisturbed: then what is seen is the machine as it is.

    Attributes:
        blocks: What went on beside each block so far, with those that were served again.
        patient: Whether disturbed blocks are still served again.
        retries: How many were.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.blocks: list[Disturbance] = []
        self.patient = True
        self.retries = 0
        self._row = 0
        self._mark: Mark | None = None

    @property
    def noisy(self) -> bool:
        """Whether disturbed blocks may count, because there was little else."""
        calm = sum(not block.counts for block in self.blocks)
        return not self.patient or calm < LEAST_CALM * len(self.blocks)

    def begin(self) -> None:
        """The first block of a load begins."""
        self._mark = self._watch.mark(self._watch.burst())

    def again(self) -> bool:
        """A block has ended and the next begins; whether it is to be the same once more."""
        assert self._mark is not None
        beside = self._watch.beside(self._mark)
        self.blocks.append(beside)
        self._mark = self._watch.mark(beside.after_ms)
        self.patient = self.patient and not (self.noisy and len(self.blocks) >= _PATIENCE)
        self._row = self._row + 1 if beside.counts else 0
        repeat = beside.counts and self.patient and self._row <= _ROW
        self.retries += repeat
        return repeat


def serve(
    run: Run, samples: Sequence[Arrays], batcher: Batcher, load: Load, clock: Clock | None = None
) -> ServerRun:
    """Serve Poisson arrivals through the batcher, one batch at a time.

    The schedule is drawn beforehand and one thread both knows it and serves. A request counts as
    arrived at its scheduled time, however busy the server is then, so a stall is charged to all
    whom it delays (no coordinated omission). Putting a batch together is part of its service.

    Args:
        run: Answers a batch, host to host; blocks until it is done. It is warm already.
        samples: Real samples that the requests rotate over: by input name, of shape (1, ...).
        batcher: Which requests go together.
        load: How many requests come, and how fast.
        clock: The wall clock, unless another is given.

    Raises:
        ValueError: There are no samples.
    """
    with collector_off():
        return drive(run, samples, batcher, load, clock or Clock())


def drive(
    run: Run,
    samples: Sequence[Arrays],
    batcher: Batcher,
    load: Load,
    clock: Clock,
    minder: Minder | None = None,
    deadline_ns: float = math.inf,
) -> ServerRun:
    """As ``serve``, for those who serve many loads and switch the garbage collector off once.

    The ``minder`` has disturbed blocks served again; without one none is. Once the clock says
    ``deadline_ns`` nobody is served any more.
    """
    if not samples:
        raise ValueError("a server needs samples to serve: got none")
    offsets = schedule(load)
    begin = clock.now()
    arrivals: list[int] = (begin + offsets).tolist()
    notes, late = _serve(run, samples, batcher, arrivals, load.give_up, clock, minder, deadline_ns)
    return _told(batcher, arrivals, notes, (clock.now() - begin) / 1e9, late)


def schedule(load: Load) -> Times:
    """When the requests arrive, in ns from the start; the first one does after an interval too.

    The intervals of a Poisson process are independent and exponential. Loads that differ in their
    rate alone have the same arrivals on another scale (common random numbers: Law, Simulation
    Modeling and Analysis, section 11.2), so comparing them is not left to luck.
    """
    rng = np.random.default_rng(load.seed)
    offsets = np.cumsum(rng.exponential(1.0, size=load.requests)) / load.rate_per_s
    sent = max(1, int(np.searchsorted(offsets, load.seconds, side="right")))
    return np.rint(offsets[:sent] * 1e9).astype(np.int64)


def _serve(
    run: Run,
    samples: Sequence[Arrays],
    batcher: Batcher,
    arrivals: list[int],
    give_up: GiveUp | None,
    clock: Clock,
    minder: Minder | None,
    deadline_ns: float,
) -> tuple[_Notes, bool]:
    """The loop: when each batch began and ended and its size; all arithmetic comes afterwards.

    Times are the clock's, less what stood still. With whether the deadline has ended it.
    """
    now = clock.now
    notes: _Notes = []
    first = above = still = 0
    late = False
    begun = now()
    kept = 0, 0, 0
    if minder is not None:
        minder.begin()
        still = now() - begun
    while first < len(arrivals):
        ready = batcher.ready_ns(arrivals, first)
        start = now() - still
        while start < ready:
            clock.wait_until(ready + still)
            start = now() - still
        size = batcher.size(arrivals, first, start)
        run(assemble(samples, first, size))
        end = now() - still
        notes.append((start, end, size))
        if give_up is not None:
            oldest = end - round(give_up.above_ms * 1e6)
            above += bisect_left(arrivals, oldest, first, first + size) - first
        first += size
        late = end + still > deadline_ns
        over = late or (give_up is not None and above > give_up.allowed and first >= RACING_CALLS)
        if minder is not None and (over or end - begun > BLOCK_NS or first == len(arrivals)):
            if not minder.again():
                kept, begun = (len(notes), first, above), end
            elif kept[0] or not late:
                (place, first, above), over = kept, late
                del notes[place:]
            still = now() - begun
        if over:
            break
    return notes, late


def _told(
    batcher: Batcher, arrivals: list[int], notes: _Notes, seconds: float, late: bool
) -> ServerRun:
    starts, ends, sizes = np.array(notes, dtype=np.int64).T
    answered = int(sizes.sum())
    firsts = (np.cumsum(sizes) - sizes).tolist()
    ready = np.array([batcher.ready_ns(arrivals, first) for first in firsts])
    free = np.concatenate([ready[:1] - 1, ends[:-1]])  # before the first request it is idle
    arrived = bisect_right(arrivals, int(ends[-1]))
    waiting = arrivals[answered:arrived] if late else []
    return ServerRun(
        latencies_ns=np.repeat(ends, sizes) - np.array(arrivals[:answered]),
        batch_sizes=sizes,
        late_ns=starts - np.maximum(ready, free),
        unanswered=arrived - answered,
        pressed_share=float(((sizes == batcher.max_batch) & (ready <= free)).mean()),
        seconds=seconds,
        waiting_ns=ends[-1] - np.array(waiting, dtype=np.int64),
    )
