"""Two callables against each other, on a clock of the test's own and on the real one."""

import time

import numpy as np
import pytest

from autotune.measure import compare, interleave
from autotune.measure.compare import LEAST_PAIRS


class Clock:
    """Time that passes only in calls, and a little with every reading."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 50
        return self.now

    def busy(self, seconds):
        self.now += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(time, "perf_counter_ns", found)
    return found


def test_the_ratio_of_what_is_known_to_differ_lies_in_the_interval(clock):
    found = compare(
        lambda _: clock.busy(0.003), lambda _: clock.busy(0.002), pairs=10, block_s=0.02
    )
    assert found.ratio.value == pytest.approx(1.5, rel=0.001)
    assert found.ratio.low <= found.ratio.value <= found.ratio.high
    assert found.ratio.low > 1.49
    assert found.ratio.value == pytest.approx(np.median(found.a_ms / found.b_ms))
    assert np.median(found.a_ms) == pytest.approx(3.0, rel=0.001)
    assert len(found.a_ms) == len(found.b_ms) == len(found.order) == 10


def test_drift_meets_both(clock):
    """The machine gets three times slower on the way; the same work still compares as equal."""

    def call(_):
        clock.busy(0.001 * (1 + 2 * min(1.0, clock.now / 1e9)))

    found = compare(call, call, pairs=20, block_s=0.02)
    assert found.a_ms[-1] > 1.5 * found.a_ms[0]
    assert found.ratio.value == pytest.approx(1.0, abs=0.03)


def test_the_turns_interleave_in_a_seeded_order(clock):
    def turns(seed):
        seen = []

        def call(name):
            def once(_):
                if seen[-1:] != [name]:
                    seen.append(name)
                clock.busy(0.0005)

            return once

        found = compare(call("a"), call("b"), pairs=8, block_s=0.003, seed=seed)
        return seen, found.order

    seen, order = turns(3)
    told = ["a", "b"]
    for first in order:
        told += [first, "b" if first == "a" else "a"]
    assert seen == [name for i, name in enumerate(told) if i == 0 or told[i - 1] != name]
    assert set(order) == {"a", "b"}
    assert turns(3)[1] == order
    assert any(turns(seed)[1] != order for seed in range(3))


def test_requests_count_up_for_each_and_a_slow_call_has_its_five(clock):
    seen = {"a": [], "b": []}

    def slow(index):
        seen["a"].append(index)
        clock.busy(0.004)

    compare(slow, lambda i: seen["b"].append(i) or clock.busy(0.001), pairs=6, block_s=0.002)
    assert all(found == list(range(len(found))) for found in seen.values())
    assert len(seen["a"]) == 7 * 6  # one that is not timed and five, a turn; the first warms up


def test_what_costs_no_more_than_the_clock_is_timed_in_groups():
    calls = []
    found = compare(calls.append, lambda _: None, pairs=6, block_s=0.002)
    assert 0 < np.median(found.b_ms) < 0.01
    assert found.ratio.value > 0.2
    assert calls == list(range(len(calls)))


def test_any_number_take_turns_each_round_in_an_order_of_its_own(clock):
    lengths_ms = (1.0, 2.0, 4.0)
    calls = [lambda _, ms=ms: clock.busy(ms / 1000) for ms in lengths_ms]
    found = interleave(calls, rounds=20, block_s=0.01)
    assert found.medians_ms.shape == (3, 20)
    assert np.median(found.medians_ms, axis=1) == pytest.approx(lengths_ms, rel=0.001)
    assert all(sorted(places) == [0, 1, 2] for places in found.order)
    assert len(set(found.order)) > 1
    ratio = found.ratio(2, 0)
    assert ratio.value == pytest.approx(4.0, rel=0.001)
    assert ratio.low <= ratio.value <= ratio.high


@pytest.mark.parametrize("wrong", [{"calls": []}, {"rounds": 0}, {"block_s": -1.0}])
def test_turns_of_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="turns need a callable"):
        interleave(**{"calls": [lambda _: None], **wrong})


@pytest.mark.parametrize("wrong", [{"pairs": LEAST_PAIRS - 1}, {"block_s": 0.0}])
def test_too_little_to_tell_an_interval_is_refused(wrong):
    with pytest.raises(ValueError, match="6 pairs or more"):
        compare(lambda _: None, lambda _: None, **wrong)
