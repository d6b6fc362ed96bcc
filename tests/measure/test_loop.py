"""The loop, on real calls and the real clock."""

import dataclasses
import gc
import time

import numpy as np
import pytest

from autotune.measure import latency_columns, statistics
from autotune.measure.loop import LoopSettings, clock_overhead_ns, time_calls


def busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_requests_count_up_from_zero_and_every_sample_is_one_of_them():
    seen = []

    def call(index: int) -> None:
        seen.append(index)
        busy(0.001)

    timing = time_calls(call, settings=LoopSettings(min_calls=40, min_s=0.0, max_s=2.0))
    assert seen == list(range(len(seen)))
    assert timing.group == 1
    assert 40 <= len(timing.samples_ns) <= len(seen) - 1 - timing.warmup_calls
    assert timing.samples_ns.dtype == np.int64
    assert 1_000_000 <= np.median(timing.samples_ns) < 2_000_000
    assert timing.warmup_calls >= 10


def test_the_first_call_stands_apart():
    def call(index: int) -> None:
        busy(0.2 if index == 0 else 0.001)

    timing = time_calls(call, settings=LoopSettings(max_s=0.3))
    assert timing.first_call_ns >= 200_000_000
    assert np.quantile(timing.samples_ns, 0.9) < 100_000_000


def test_warm_up_lasts_until_calls_stop_getting_faster():
    """The latency falls from 3 ms by a tenth a call; the samples begin when it has settled."""

    def call(index: int) -> None:
        busy(max(0.001, 0.003 * 0.97**index))

    timing = time_calls(call, settings=LoopSettings(warmup_calls=4, max_s=0.3))
    assert timing.warmup_calls >= 36  # 0.97^36 = 1/3
    assert np.median(timing.samples_ns) < 1_300_000


def test_a_model_that_never_settles_is_flagged():
    def call(index: int) -> None:
        busy(0.001 * (1 + index / 20))

    timing = time_calls(call, settings=LoopSettings(warmup_max_s=0.2, max_s=0.2))
    assert not timing.stable
    assert timing.seconds < 1.5


def test_a_slow_model_is_called_as_often_as_the_cap_allows_and_no_more():
    calls = []

    def call(index: int) -> None:
        calls.append(index)
        time.sleep(0.2)

    settings = LoopSettings(warmup_max_s=0.1, min_calls=50, max_s=0.75)
    timing = time_calls(call, settings=settings)
    assert len(timing.samples_ns) == 3  # a fourth would end at 0.8 s
    assert len(calls) == 1 + 1 + 3
    assert not timing.stable
    assert not timing.precise
    assert timing.seconds < 1.5
    columns = latency_columns(timing.samples_ns, batch=1)
    assert columns["latency_p50_ms"].value == pytest.approx(200, rel=0.1)
    assert columns["latency_p99_ms"].high is None


def test_a_model_slower_than_every_cap_is_called_three_times():
    calls = []

    def call(index: int) -> None:
        calls.append(index)
        time.sleep(0.15)

    timing = time_calls(call, settings=LoopSettings(warmup_max_s=0.05, max_s=0.05))
    assert len(calls) == 3
    assert len(timing.samples_ns) == 1


def test_a_lost_race_ends_early():
    settings = LoopSettings(min_calls=1000, min_s=5.0, max_s=5.0, give_up_above_ms=0.5)
    timing = time_calls(lambda _: busy(0.002), settings=settings)
    assert timing.gave_up
    assert 30 <= len(timing.samples_ns) < 200
    assert timing.seconds < settings.min_s


def test_a_race_that_is_won_goes_on():
    settings = LoopSettings(min_calls=100, min_s=0.1, max_s=1.0, give_up_above_ms=50.0)
    timing = time_calls(lambda _: busy(0.001), settings=settings)
    assert not timing.gave_up
    assert len(timing.samples_ns) >= 100


def test_a_steady_model_is_measured_no_longer_than_it_takes():
    timing = time_calls(lambda _: time.sleep(0.01), settings=LoopSettings(precision=0.5, max_s=30))
    assert timing.precise
    assert timing.seconds < 10


def test_what_costs_no_more_than_the_clock_is_timed_in_groups():
    settings = LoopSettings(min_s=0.05, max_s=0.3)
    timing = time_calls(lambda _: None, settings=settings)
    assert timing.group > 1
    assert timing.group * np.median(timing.samples_ns) >= 10 * timing.clock_overhead_ns
    assert 1 <= np.median(timing.samples_ns) < 10_000
    assert timing.facts()["calls_per_sample"] == timing.group


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_off_inside_and_as_before_afterwards(was_on):
    inside = []

    def call(index: int) -> None:
        inside.append(gc.isenabled())
        if index == 3:
            raise RuntimeError("the runtime failed")

    try:
        if not was_on:
            gc.disable()
        with pytest.raises(RuntimeError, match="the runtime failed"):
            time_calls(call, settings=LoopSettings())
        assert gc.isenabled() == was_on
    finally:
        gc.enable()
    assert inside == [False] * 4


def test_the_clock_is_read_in_well_under_a_hundredth_of_a_millisecond():
    assert 1 <= clock_overhead_ns() < 10_000


def test_a_wanted_p99_is_measured_until_it_can_be_told():
    def call(_):
        time.sleep(0.002)

    short = LoopSettings(warmup_max_s=0.1, min_s=0.05, max_s=0.2)
    assert statistics.quantile(time_calls(call, settings=short).samples_ns / 1e6, 0.99).high is None
    wanted = dataclasses.replace(short, tail_below_ms=50.0)
    told = time_calls(call, settings=wanted)
    assert statistics.quantile(told.samples_ns / 1e6, 0.99).high is not None
    assert told.seconds < 10
    hopeless = dataclasses.replace(short, tail_below_ms=0.5)
    assert time_calls(call, settings=hopeless).seconds < 0.6
