"""The loop, on real calls and the real clock."""

import dataclasses
import gc
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from autotune.measure import latency_columns, statistics
from autotune.measure.blocks import Block, clock_overhead_ns, usable
from autotune.measure.loop import LoopSettings, time_calls
from autotune.measure.reference import Disturbance, Watch, waited_ns


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


def test_a_clock_that_ticks_coarsely_is_told_by_its_tick(monkeypatch):
    fine = time.perf_counter_ns  # most readings of the coarse one are the same
    monkeypatch.setattr(time, "perf_counter_ns", lambda: fine() // 1_000_000 * 1_000_000)
    assert clock_overhead_ns() in (1_000_000, 2_000_000)


def test_calls_below_the_tick_of_the_clock_are_timed_in_groups(clock, monkeypatch):
    """Most of them seem to take no time at all."""
    monkeypatch.setattr(time, "perf_counter_ns", lambda: clock() // 50_000 * 50_000)
    brief = LoopSettings(warmup_max_s=0.1, min_calls=20, min_s=0.0, max_s=0.5)
    timing = time_calls(lambda _: clock.busy(5e-6), settings=brief)
    assert timing.clock_overhead_ns == 50_000
    assert 150 <= timing.group <= 250
    assert np.median(timing.samples_ns) == pytest.approx(5000, rel=0.1)


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


QUIET = Watch(1.0, burst=lambda: 1.0, waited=lambda: 0)
BRIEF = LoopSettings(warmup_max_s=0.2, min_calls=60, min_s=0.0, max_s=0.5)


def test_blocks_in_which_threads_waited_are_taken_again(clock):
    """Calls 150 to 300 take three times as long, and the kernel says that they waited."""
    waited = 0

    def call(index: int) -> None:
        nonlocal waited
        slow = 150 <= index < 300
        clock.busy(0.003 if slow else 0.001)
        waited += 2_000_000 if slow else 0

    settings = dataclasses.replace(BRIEF, min_calls=200, max_s=2.0)
    watch = dataclasses.replace(QUIET, waited=lambda: waited)
    timing = time_calls(call, settings=settings, watch=watch)
    facts = timing.facts()
    assert not timing.noisy
    assert facts["disturbed_blocks"] == facts["retries"] >= 1
    assert facts["run_queue_share"] == 0
    assert len(timing.samples_ns) >= 200
    assert np.quantile(timing.samples_ns, 0.9) < 1_001_000
    kept = sum(len(b.samples) for b in timing.blocks if not b.disturbed)
    assert len(timing.samples_ns) == kept < sum(len(b.samples) for b in timing.blocks)


@pytest.mark.parametrize(("ms", "disturbed"), [(1.07, False), (1.09, True), (0.5, False)])
def test_a_slower_reference_marks_the_block(clock, ms, disturbed):
    watch = dataclasses.replace(QUIET, burst=lambda: ms)
    timing = time_calls(lambda _: clock.busy(0.001), settings=BRIEF, watch=watch)
    assert all(block.disturbed is disturbed for block in timing.blocks)
    assert timing.noisy is disturbed
    assert (timing.facts()["reference_ratio"] > 1.08) is disturbed


def test_a_machine_that_never_rests_is_flagged_and_costs_twice_the_time_at_most(clock):
    waits = iter(range(0, 10**15, 10**9))
    watch = dataclasses.replace(QUIET, waited=lambda: next(waits))
    timing = time_calls(lambda _: clock.busy(0.001), settings=BRIEF, watch=watch)
    facts = timing.facts()
    assert timing.noisy
    assert facts["noisy"] is True
    assert facts["disturbed_blocks"] == facts["blocks"]
    assert 1 <= facts["retries"] < facts["blocks"]
    assert facts["run_queue_share"] > 1
    assert len(timing.samples_ns) >= BRIEF.min_calls
    assert timing.seconds < BRIEF.warmup_max_s + 2 * BRIEF.max_s + 0.1


def test_where_the_kernel_does_not_tell_of_waiting_the_reference_decides_alone(clock):
    watch = dataclasses.replace(QUIET, waited=lambda: None)
    timing = time_calls(lambda _: clock.busy(0.001), settings=BRIEF, watch=watch)
    assert not timing.noisy
    assert timing.facts()["run_queue_share"] is None


def test_a_clear_loser_is_dropped_after_fifty_milliseconds_and_thirty_calls(clock):
    calls = []

    def call(index: int) -> None:
        calls.append(index)
        clock.busy(0.002)

    settings = dataclasses.replace(BRIEF, give_up_above_ms=0.5)
    timing = time_calls(call, settings=settings, watch=QUIET)
    assert timing.gave_up
    assert len(timing.samples_ns) == 30
    assert len(calls) <= 1 + 25 + 30
    assert calls == list(range(len(calls)))


def test_a_race_is_not_lost_in_a_disturbed_block(clock):
    waits = iter(range(0, 10**15, 10**9))
    watch = dataclasses.replace(QUIET, waited=lambda: next(waits))
    settings = dataclasses.replace(BRIEF, give_up_above_ms=0.5)
    timing = time_calls(lambda _: clock.busy(0.002), settings=settings, watch=watch)
    assert timing.noisy
    assert len(timing.samples_ns) > 30


HOG = "import os\nos.sched_setaffinity(0, {int(input())})\nprint(flush=True)\nwhile True: pass"


@pytest.mark.skipif(waited_ns() is None, reason="this kernel does not tell of waiting")
def test_a_busy_neighbour_on_the_same_core_is_seen():
    """Blocks are of 60 ms and more, so nearly each of them shares its core."""
    before = os.sched_getaffinity(0)
    core = max(before)
    hog = subprocess.Popen(
        [sys.executable, "-c", HOG], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        hog.stdin.write(f"{core}\n")
        hog.stdin.flush()
        hog.stdout.readline()
        os.sched_setaffinity(0, {core})
        watch = dataclasses.replace(QUIET, waited=waited_ns)
        settings = dataclasses.replace(BRIEF, min_calls=1000, max_s=1.0)
        timing = time_calls(lambda _: busy(0.002), settings=settings, watch=watch)
    finally:
        os.sched_setaffinity(0, before)
        hog.kill()
        hog.communicate()
    facts = timing.facts()
    assert facts["disturbed_blocks"] >= 0.75 * facts["blocks"]
    assert timing.noisy
    assert facts["run_queue_share"] > 0.2


def test_a_few_calm_blocks_among_many_disturbed_ones_are_not_believed():
    """They may be calm by chance, or what disturbs may not show in what is looked at."""

    def block(latency_ns, waited):
        return Block(np.full(60, latency_ns), Disturbance(1.0, 1.0, 1.0, waited))

    disturbed = [block(3_000_000, 0.5)] * 9
    samples, noisy = usable([block(1_000_000, 0.0), *disturbed], enough=50)
    assert noisy
    assert len(samples) == 600
    samples, noisy = usable([block(1_000_000, 0.0)] * 3 + disturbed, enough=50)
    assert not noisy
    assert set(samples) == {1_000_000}
