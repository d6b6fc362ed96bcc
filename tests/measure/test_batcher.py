"""Which requests go together, and when."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.measure.batcher import Batcher, assemble

ARRIVALS = [10, 20, 30, 5_000_000, 5_000_001]


@pytest.mark.parametrize(
    ("batcher", "first", "ready"),
    [
        (Batcher(), 1, 20),
        (Batcher(1, 4.0), 1, 20),  # there is no company to wait for
        (Batcher(4, 0.0), 0, 10),
        (Batcher(3, 1.0), 0, 30),  # full before the delay is over
        (Batcher(4, 1.0), 0, 1_000_010),  # the delay is over before it is full
        (Batcher(2, 1.0), 3, 5_000_001),
        (Batcher(2, 1.0), 4, 6_000_001),  # it does not know that nobody comes any more
    ],
)
def test_a_batch_goes_when_it_is_full_or_its_oldest_waited_long_enough(batcher, first, ready):
    assert batcher.ready_ns(ARRIVALS, first) == ready


@pytest.mark.parametrize(
    ("most", "first", "now", "size"),
    [(8, 0, 9, 0), (8, 0, 10, 1), (8, 0, 29, 2), (2, 0, 99, 2), (8, 1, 99, 2), (8, 3, 10**9, 2)],
)
def test_a_batch_takes_all_that_arrived_and_no_more_than_it_holds(most, first, now, size):
    assert Batcher(most).size(ARRIVALS, first, now) == size


@given(
    gaps=st.lists(st.integers(0, 3_000_000), min_size=1, max_size=40),
    most=st.integers(1, 6),
    delay_ms=st.floats(0, 3),
    data=st.data(),
)
def test_what_is_ready_is_never_empty_and_knows_no_future(gaps, most, delay_ms, data):
    arrivals = np.cumsum(gaps).tolist()
    first = data.draw(st.integers(0, len(arrivals) - 1))
    batcher = Batcher(most, delay_ms)
    ready = batcher.ready_ns(arrivals, first)
    size = batcher.size(arrivals, first, ready)
    assert 1 <= size <= most
    assert 0 <= ready - arrivals[first] <= round(delay_ms * 1e6)
    if ready - arrivals[first] < round(delay_ms * 1e6):
        assert size == most
    known = arrivals[: first + size]  # as if nobody else ever came
    assert batcher.size(known, first, ready) == size
    assert batcher.ready_ns(known, first) == ready or size < most


def test_a_batch_holds_the_samples_in_turn():
    samples = [{"x": np.full((1, 2), i), "mask": np.full((1,), -i)} for i in range(3)]
    batch = assemble(samples, first=2, size=4)
    assert batch["x"].tolist() == [[2, 2], [0, 0], [1, 1], [2, 2]]
    assert batch["mask"].tolist() == [-2, 0, -1, -2]
    assert assemble(samples, first=4, size=1)["x"] is samples[1]["x"]


@pytest.mark.parametrize("most", [0, -1])
def test_an_empty_batch_is_refused(most):
    with pytest.raises(ValueError, match=f"max_batch is 1 or more, not {most}"):
        Batcher(most)


@pytest.mark.parametrize("delay_ms", [-1.0, math.inf, math.nan])
def test_a_delay_that_is_no_time_is_refused(delay_ms):
    with pytest.raises(ValueError, match="max_queue_delay_ms is a time"):
        Batcher(4, delay_ms)
