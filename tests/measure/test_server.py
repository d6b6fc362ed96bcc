"""The server in virtual time against queueing theory, and once on the wall clock."""

import gc
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from autotune.measure.batcher import Batcher
from autotune.measure.offline import OfflineSettings, flood
from autotune.measure.reference import Watch
from autotune.measure.server import (
    Clock,
    GiveUp,
    Load,
    Minder,
    VirtualTime,
    drive,
    schedule,
    serve,
    wait_until,
)

SAMPLES = [{"x": np.full((1, 2), i, dtype=np.float32)} for i in range(16)]
MS = 1_000_000


def served(load, batcher=None, service_ns=lambda place, size: 2 * MS):
    """A run in virtual time; ``service_ns`` is of the batch's place and its size."""
    virtual = VirtualTime()
    calls = []

    def run(batch):
        virtual.now_ns += service_ns(len(calls), len(batch["x"]))
        calls.append(batch)

    return serve(run, SAMPLES, batcher or Batcher(), load, virtual.clock), calls


def lindley(arrivals, services):
    """Latencies of a first-come-first-served queue (Lindley 1952), written as one sees it."""
    free, latencies = 0, []
    for arrival, service in zip(arrivals.tolist(), services, strict=True):
        free = max(free, arrival) + service
        latencies.append(free - arrival)
    return np.array(latencies)


# ---- arrivals ------------------------------------------------------------------------------------


def test_arrivals_are_a_poisson_process_of_the_rate_that_was_asked_for():
    intervals = np.diff(schedule(Load(rate_per_s=200.0, requests=20_000)), prepend=0) / 1e9
    assert intervals.mean() == pytest.approx(1 / 200, rel=0.02)
    assert kstest(intervals, "expon", args=(0, 1 / 200)).pvalue > 0.01
    assert abs(np.corrcoef(intervals[1:], intervals[:-1])[0, 1]) < 0.03


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    one, two, other = (served(Load(300.0, 500, seed=seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(one.latencies_ns, two.latencies_ns)
    assert not np.array_equal(one.latencies_ns, other.latencies_ns)


def test_another_rate_is_the_same_schedule_on_another_scale():
    slow, fast = schedule(Load(10.0, 100)), schedule(Load(1000.0, 100))
    assert np.allclose(slow / 100, fast, atol=1)


def test_requests_are_sent_for_so_many_seconds_and_those_sent_are_answered():
    load = Load(rate_per_s=1000.0, requests=10_000, seconds=0.5)
    run, calls = served(load)  # twice what the server can do
    sent = int((schedule(Load(1000.0, 10_000)) <= 0.5e9).sum())
    assert 400 < sent < 600
    assert len(run.latencies_ns) == len(calls) == sent
    assert run.unanswered == 0
    assert run.seconds == pytest.approx(sent * 0.002, abs=0.01)


# ---- the queue -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "requests"), [(0.3, 50_000), (0.5, 50_000), (0.8, 200_000)])
def test_the_mean_wait_is_that_of_an_m_d_1_queue(load, requests):
    """W = rho / (2 mu (1 - rho)) (Pollaczek 1930, Khinchine 1932, for a constant service time)."""
    run, _ = served(Load(rate_per_s=load * 500, requests=requests))
    wait_ms = run.latencies_ns.mean() / 1e6 - 2.0
    assert wait_ms == pytest.approx(2.0 * load / (2 * (1 - load)), rel=0.05)
    assert run.pressed_share == pytest.approx(load, abs=0.02)  # who has to wait, for batch 1


@settings(max_examples=25, deadline=None)
@given(rate=st.floats(50, 2000), seed=st.integers(0, 99), delay_ms=st.sampled_from([0.0, 5.0]))
def test_batches_of_one_are_a_plain_queue_whatever_the_delay(rate, seed, delay_ms):
    load = Load(rate, 200, seed=seed)
    run, calls = served(load, Batcher(1, delay_ms))
    assert np.array_equal(run.latencies_ns, lindley(schedule(load), [2 * MS] * 200))
    assert run.batch_sizes.tolist() == [1] * 200
    assert all(batch is SAMPLES[i % 16] for i, batch in enumerate(calls))


def test_without_a_delay_nobody_waits_for_company():
    load = Load(rate_per_s=5.0, requests=300)  # one in ten thousand meets another
    run, _ = served(load, Batcher(8, 0.0))
    assert np.mean(run.latencies_ns == 2 * MS) > 0.97
    waiting, _ = served(load, Batcher(8, 3.0))
    assert np.median(waiting.latencies_ns) == 5 * MS


def test_a_busy_server_takes_all_that_wait():
    run, _ = served(
        Load(rate_per_s=5000.0, requests=2000), Batcher(8), lambda _, size: 2 * MS + size * MS // 10
    )
    assert run.batch_sizes.sum() == 2000
    assert run.batch_sizes.max() == 8
    assert np.mean(run.batch_sizes == 8) > 0.95  # 5 times what batch 1 can do, 1.75 times batch 8
    assert run.pressed_share > 0.95


def test_every_request_of_a_batch_waits_for_its_end():
    load = Load(rate_per_s=1000.0, requests=400, seed=3)
    run, _ = served(load, Batcher(4, 1.0), lambda place, size: (1 + place % 3) * MS)
    arrivals = schedule(load)
    end = first = 0
    expected = []
    for place, size in enumerate(run.batch_sizes.tolist()):
        mine = arrivals[first : first + size]
        full = mine[-1] if size == 4 else np.inf
        start = max(end, min(mine[0] + MS, full))
        end = start + (1 + place % 3) * MS
        expected += [end - arrival for arrival in mine]
        assert first + size == 400 or size == 4 or arrivals[first + size] > start
        first += size
    assert run.latencies_ns.tolist() == expected
    assert not run.late_ns.any()


def test_requests_bring_the_samples_in_turn():
    run, calls = served(Load(rate_per_s=2000.0, requests=50), Batcher(4))
    assert max(run.batch_sizes) > 1
    rows = np.concatenate([batch["x"][:, 0] for batch in calls])
    assert rows.tolist() == [i % 16 for i in range(50)]


# ---- open loop -----------------------------------------------------------------------------------


def test_a_stall_is_charged_to_every_request_that_it_delays():
    """At 100 requests/s about ten come during 100 ms; a closed loop would notice one."""
    load = Load(rate_per_s=100.0, requests=600, seed=7)
    steady, _ = served(load, service_ns=lambda place, _: MS)
    stalled, _ = served(load, service_ns=lambda place, _: 101 * MS if place == 300 else MS)
    arrivals = schedule(load)
    begin = arrivals[300]
    assert steady.latencies_ns[300] == MS  # it did not wait itself
    during = int(((arrivals > begin) & (arrivals <= begin + 101 * MS)).sum())
    assert during >= 5
    delayed = np.flatnonzero(stalled.latencies_ns > steady.latencies_ns)
    assert delayed[0] == 300
    assert len(delayed) >= 1 + during
    assert np.array_equal(
        stalled.latencies_ns, lindley(arrivals, [101 * MS if i == 300 else MS for i in range(600)])
    )
    for place in range(301, 301 + during):  # each by what was left of the stall when it came
        left = begin + 101 * MS - arrivals[place]
        assert stalled.latencies_ns[place] >= left

    virtual, calls = VirtualTime(), []

    def closed(i):
        virtual.now_ns += 101 * MS if len(calls) == 300 else MS
        calls.append(i)

    loop = flood(closed, 1, OfflineSettings(max_s=2.0, min_s=1.0), virtual.clock.now)
    assert int((loop.intervals_ns > MS).sum()) == 1


def test_a_waiting_that_wakes_late_is_charged_and_told():
    virtual = VirtualTime()

    def oversleep(moment_ns):
        virtual.now_ns = max(virtual.now_ns, moment_ns + 3 * MS)

    def run(_):
        virtual.now_ns += 2 * MS

    clock = Clock(virtual.clock.now, oversleep)
    found = serve(run, SAMPLES, Batcher(), Load(5.0, 100), clock)
    assert np.median(found.latencies_ns) == 5 * MS
    assert np.median(found.late_ns) == 3 * MS
    assert found.facts()["late_p99_ms"] == pytest.approx(3.0)


def test_a_waiting_that_wakes_early_serves_nobody_before_he_comes():
    virtual = VirtualTime()

    def doze(moment_ns):
        virtual.now_ns += max(1, (moment_ns - virtual.now_ns) // 2)

    def run(_):
        virtual.now_ns += 2 * MS

    found = serve(run, SAMPLES, Batcher(), Load(5.0, 100), Clock(virtual.clock.now, doze))
    assert found.latencies_ns.min() == 2 * MS


def test_a_hopeless_run_gives_up_and_says_who_is_left():
    load = Load(rate_per_s=1000.0, requests=10_000, give_up=GiveUp(above_ms=50.0, allowed=20))
    run, _ = served(load)
    assert int((run.latencies_ns > 50 * MS).sum()) == 21
    answered = len(run.latencies_ns)
    whole = lindley(schedule(load), [2 * MS] * 10_000)
    assert np.array_equal(run.latencies_ns, whole[:answered])
    end = schedule(load)[answered - 1] + run.latencies_ns[-1]
    assert run.unanswered == int((schedule(load) <= end).sum()) - answered > 20


def test_a_run_does_not_give_up_on_a_handful():
    load = Load(rate_per_s=100.0, requests=1000, give_up=GiveUp(above_ms=1.0, allowed=0))
    assert len(served(load)[0].latencies_ns) == 30


@pytest.mark.parametrize(
    ("rate", "requests", "seconds", "words"),
    [
        (0.0, 5, 1.0, "rate_per_s"),
        (np.inf, 5, 1.0, "rate_per_s"),
        (np.nan, 5, 1.0, "rate_per_s"),
        (1.0, 0, 1.0, "requests"),
        (1.0, 5, 0.0, "seconds"),
    ],
)
def test_a_load_that_is_none_is_refused(rate, requests, seconds, words):
    with pytest.raises(ValueError, match=words):
        Load(rate, requests, seconds)


def test_a_server_without_samples_is_refused():
    with pytest.raises(ValueError, match="needs samples"):
        serve(lambda _: None, [], Batcher(), Load(1.0, 1))


# ---- the wall clock ------------------------------------------------------------------------------


def test_waiting_ends_no_sooner_than_asked_and_soon_after():
    late = []
    for _ in range(20):
        moment = time.perf_counter_ns() + 3 * MS
        wait_until(moment)
        late.append(time.perf_counter_ns() - moment)
    assert min(late) >= 0
    assert min(late) < 0.2 * MS
    moment = time.perf_counter_ns()
    wait_until(moment - MS)  # what is past is not waited for
    assert time.perf_counter_ns() - moment < 5 * MS


def test_a_model_of_2_ms_is_served_on_the_wall_clock():
    collecting = []

    def run(batch):
        collecting.append(gc.isenabled())
        end = time.perf_counter_ns() + 2 * MS
        while time.perf_counter_ns() < end:
            pass

    load = Load(rate_per_s=100.0, requests=100, seed=1)
    begin = time.perf_counter()
    found = serve(run, SAMPLES, Batcher(), load)
    wall = time.perf_counter() - begin
    assert collecting == [False] * 100
    assert gc.isenabled()
    assert len(found.latencies_ns) == 100
    assert found.latencies_ns.min() >= 2 * MS
    assert found.latencies_ns.min() < 4 * MS
    assert np.all(found.latencies_ns >= lindley(schedule(load), [2 * MS] * 100))
    assert schedule(load)[-1] / 1e9 <= found.seconds <= wall


# ---- disturbed blocks ----------------------------------------------------------------------------


class Machine:
    """Virtual time on a machine that others slow down now and then; its reference tells when."""

    def __init__(self, slow):
        self.virtual, self.slow, self.looks = VirtualTime(), slow, 0

    def watch(self):
        return Watch(1.0, burst=self.burst, waited=lambda: None)

    def burst(self):
        self.looks += 1
        self.virtual.now_ns += 2 * MS
        return 1.5 if self.slow(self.virtual.now_ns / 1e9) else 1.0

    def run(self, batch):
        slow = self.slow(self.virtual.now_ns / 1e9)
        self.virtual.now_ns += (6 if slow else 2) * MS

    def serve(self, load, minder, deadline_ns=np.inf):
        whole = self.run, SAMPLES, Batcher(), load, self.virtual.clock
        return drive(*whole, minder, deadline_ns)


def test_what_was_disturbed_is_served_again_as_if_it_had_not_been():
    """A third of the time everything takes three times as long: more than the server can do."""
    machine = Machine(slow=lambda t: t % 3 > 2)
    minder = Minder(machine.watch())
    load = Load(400.0, 4000)
    run = machine.serve(load, minder)
    assert np.array_equal(run.latencies_ns, lindley(schedule(load), [2 * MS] * 4000))
    disturbed = sum(block.counts for block in minder.blocks)
    assert len(minder.blocks) / 5 < disturbed < len(minder.blocks) / 2
    assert not minder.noisy
    assert run.seconds > 12  # 10 s of arrivals, and what was served twice
    assert machine.looks == len(minder.blocks) + 1


def test_a_hopeless_load_is_not_given_up_for_what_was_disturbed():
    machine = Machine(slow=lambda t: 0.5 < t < 1.5)
    load = Load(400.0, 2000, give_up=GiveUp(above_ms=50.0, allowed=20))
    run = machine.serve(load, Minder(machine.watch()))
    assert len(run.latencies_ns) == 2000
    assert run.latencies_ns.max() < 50 * MS
    alone = Machine(slow=lambda t: 0.5 < t < 1.5).serve(load, None)
    assert len(alone.latencies_ns) < 1000


def test_where_almost_all_is_disturbed_the_machine_is_taken_as_it_is():
    machine = Machine(slow=lambda t: True)
    minder = Minder(machine.watch())
    run = machine.serve(Load(100.0, 1000), minder)
    assert minder.noisy
    assert len(run.latencies_ns) == 1000
    assert run.latencies_ns.min() == 6 * MS
    assert len(minder.blocks) > 20


def test_nobody_is_served_after_the_deadline_and_what_was_disturbed_then_does_not_count():
    machine = Machine(slow=lambda t: t > 4.8)
    minder = Minder(machine.watch())
    run = machine.serve(Load(400.0, 4000), minder, deadline_ns=5 * 10**9)
    assert run.seconds == pytest.approx(5.0, abs=0.1)
    assert 1500 < len(run.latencies_ns) < 2000
    assert run.latencies_ns.max() < 40 * MS  # of the disturbed 0.2 s nothing is left
    late = Machine(slow=lambda t: True)
    first = late.serve(Load(400.0, 4000), Minder(late.watch()), deadline_ns=1)
    assert len(first.latencies_ns) == 1  # something is always told
