"""The highest rate, in virtual time against queueing theory, and once on the wall clock."""

import math
import time

import numpy as np
import pytest

from autotune.measure.batcher import Batcher
from autotune.measure.rate import RateSettings, highest
from autotune.measure.server import VirtualTime

SAMPLES = [{"x": np.full((1, 2), i, dtype=np.float32)} for i in range(16)]
MS = 1_000_000
LONG = RateSettings(max_s=2000.0, tolerance=0.02)
"""Time enough for the bound to come close to the p99."""


def searched(service_ms, batcher, limit_ms, settings=LONG):
    """A search in virtual time; ``service_ms`` is of a batch's size and the number of the call."""
    virtual = VirtualTime()
    calls = []

    def run(batch):
        calls.append(len(batch["x"]))
        virtual.now_ns += round(service_ms(calls[-1], len(calls)) * MS)

    found = highest(run, SAMPLES, batcher, limit_ms, settings, virtual.clock)
    return found, virtual.now_ns / 1e9


def constant(size, call):
    return 2.0


def affine(size, call):
    return 1.6 + 0.4 * size


# ---- the theory of M/D/1 -------------------------------------------------------------------------


def at_most(load, count):
    """P(no more than n in an M/D/1 system), n = 0..count, from its embedded chain (Kendall 1953).

    p(n+1) a(0) = p(n) - p(0) a(n) - sum_{i=1}^{n} p(i) a(n-i+1), where a(k) is the chance of k
    arrivals during one service, and p(0) = 1 - load.
    """
    arrivals = [math.exp(-load) * load**k / math.factorial(k) for k in range(count + 2)]
    chances = [1 - load]
    for n in range(count):
        others = sum(chances[i] * arrivals[n - i + 1] for i in range(1, n + 1))
        chances.append((chances[n] - chances[0] * arrivals[n] - others) / arrivals[0])
    return np.cumsum(chances)


def waits_at_most(services, load):
    """P(wait <= x services) in an M/D/1 queue.

    With k - 1 <= x < k and u = load (k - x) it is e^{-u} sum_{j<k} Q(k-1-j) u^j / j!, where Q(n) is
    the chance of n waiting or fewer (Franx 2001, equation for one server): only positive terms.
    """
    k = math.floor(services) + 1
    waiting = at_most(load, k)[1:]
    u = load * (k - services)
    return math.exp(-u) * sum(waiting[k - 1 - j] * u**j / math.factorial(j) for j in range(k))


def p99_in_services(load):
    return 1 + bisected(lambda wait: waits_at_most(wait, load) >= 0.99, 0.0, 100.0)


def highest_load(limit_services):
    return bisected(lambda load: p99_in_services(load) >= limit_services, 1e-3, 0.97)


def bisected(is_above, low, high):
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return high


def test_the_theory_is_right():
    """Its mean is Pollaczek's and Khinchine's; it is Erlang's formula of 1909, which alternates."""
    for load in (0.3, 0.6, 0.8):
        waits = np.linspace(0, 60, 6001)
        beyond = 1 - np.array([waits_at_most(wait, load) for wait in waits])
        assert np.trapezoid(beyond, waits) == pytest.approx(load / (2 * (1 - load)), rel=1e-3)
        for wait in (0.0, 0.7, 2.5, 5.2):
            terms = [
                (load * (n - wait)) ** n / math.factorial(n) * math.exp(-load * (n - wait))
                for n in range(math.floor(wait) + 1)
            ]
            assert waits_at_most(wait, load) == pytest.approx((1 - load) * sum(terms), rel=1e-9)


# ---- the search ----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit_ms", [8.0, 14.0, 30.0])
def test_the_highest_rate_of_a_constant_service_time_is_that_of_m_d_1(limit_ms):
    theory = highest_load(limit_ms / 2.0) * 500
    found, seconds = searched(constant, Batcher(), limit_ms, RateSettings(3000.0, 0.015, seed=2))
    assert found.ended == "found"
    assert found.rate_per_s == pytest.approx(theory, rel=0.05)
    assert found.rate_per_s < theory < found.fails_at_per_s <= found.rate_per_s * 1.06
    assert found.bound_ms <= limit_ms
    assert found.service_ms == 2.0
    assert seconds <= 3000
    assert found.shown.rate_per_s == found.rate_per_s
    assert len(found.latencies_ns) >= found.shown.answered


def test_the_claim_is_seldom_too_high_and_not_far_too_low():
    theory = highest_load(5.0) * 500
    rates = [
        searched(constant, Batcher(), 10.0, RateSettings(60.0, seed=100 * seed))[0].rate_per_s
        for seed in range(15)
    ]
    assert np.mean([rate > theory for rate in rates]) <= 0.2
    assert np.median(rates) > 0.88 * theory
    assert min(rates) > 0.7 * theory


@pytest.mark.parametrize(("size", "delay_ms"), [(4, 0.0), (8, 0.0), (8, 2.0)])
def test_batching_raises_the_rate_as_the_batch_curve_predicts(size, delay_ms):
    """Under a limit of many service times the rate is near n / (a + b n), so their ratio is."""
    alone, _ = searched(affine, Batcher(), 60.0)
    batched, _ = searched(affine, Batcher(size, delay_ms), 60.0)
    predicted = (size / affine(size, 0)) / (1 / affine(1, 0))
    assert predicted >= 2.5
    assert batched.rate_per_s / alone.rate_per_s == pytest.approx(predicted, rel=0.15)
    assert 1 < max(p.mean_batch for p in batched.probes) <= size


@pytest.mark.parametrize(
    ("service_ms", "limit_ms", "seconds", "load"),
    [(0.05, 5.0, 4.0, 0.98), (2.0, 400.0, 30.0, 0.99)],
)
def test_a_limit_of_many_services_is_no_leave_to_claim_what_was_too_short_to_see(
    service_ms, limit_ms, seconds, load
):
    """At such loads (the p99 is about at the limit) a queue's memory is longer than the search."""
    found = [
        searched(lambda *_: service_ms, Batcher(), limit_ms, RateSettings(seconds, seed=100 * seed))
        for seed in range(6)
    ]
    loads = [(one.rate_per_s or 0.0) * service_ms / 1e3 for one, _ in found]
    assert max(loads) < load
    assert np.median(loads) > 0.4
    assert max(len(one.probes) for one, _ in found) < 40


def test_what_nobody_measured_is_no_bound_of_the_rate():
    """A model that is slow while it warms up; then there is no time left for one probe."""
    slow, _ = searched(
        lambda _, call: 20.0 if call < 200 else 1.0, Batcher(), 30.0, RateSettings(3.0)
    )
    assert slow.probes == ()
    assert slow.fails_at_per_s is None
    assert slow.shown is None


@pytest.mark.parametrize("seconds", [10.0, 30.0])
def test_a_batcher_near_its_limit_is_not_taken_for_one_that_keeps_up(seconds):
    """There the queue forgets so slowly that a short probe has not seen how long it can get."""
    truth, _ = searched(affine, Batcher(8), 20.0, RateSettings(600.0, seed=7))
    rates = [
        searched(affine, Batcher(8), 20.0, RateSettings(seconds, seed=100 * seed))[0].rate_per_s
        for seed in range(6)
    ]
    above = [rate for rate in rates if rate is not None and rate > 1.05 * truth.rate_per_s]
    assert len(above) <= 1
    assert np.median([rate or 0.0 for rate in rates]) > 0.8 * truth.rate_per_s


@pytest.mark.parametrize("batcher", [Batcher(1, 0.0), Batcher(1, 50.0)])
def test_batches_of_one_are_no_batching(batcher):
    plain, _ = searched(constant, Batcher(), 10.0, RateSettings(60.0))
    same, _ = searched(constant, batcher, 10.0, RateSettings(60.0))
    assert [p.rate_per_s for p in same.probes] == [p.rate_per_s for p in plain.probes]
    assert same.rate_per_s == plain.rate_per_s
    assert {p.mean_batch for p in same.probes} == {1.0}


def test_the_same_seed_finds_the_same():
    one, two, other = (
        searched(affine, Batcher(4), 10.0, RateSettings(30.0, seed=seed))[0] for seed in (1, 1, 2)
    )
    assert one.rate_per_s == two.rate_per_s
    assert [p.p99_ms for p in one.probes] == [p.p99_ms for p in two.probes]
    assert [p.p99_ms for p in one.probes] != [p.p99_ms for p in other.probes]


def test_a_limit_below_the_service_time_is_met_by_no_rate():
    found, seconds = searched(constant, Batcher(), 1.9, RateSettings(60.0))
    assert found.ended == "no rate"
    assert found.rate_per_s is None
    assert found.bound_ms is None
    assert found.shown.rate_per_s <= 125.0
    assert found.shown.p99_ms >= 2.0
    assert f"at {found.shown.rate_per_s:.4g} requests/s the p99 is" in found.reason
    assert "no rate meets p99 <= 1.9 ms" in found.reason
    assert seconds < 30


def test_a_wait_for_company_that_only_many_requests_shorten():
    """A lone request would take 12 ms; where thousands come, batches of 8 fill in time."""
    found, _ = searched(constant, Batcher(8, 10.0), 8.0, RateSettings(60.0))
    assert found.ended == "found"
    assert 3000 < found.rate_per_s < 4000  # 8 requests every 2 ms are the most it can do
    never, _ = searched(constant, Batcher(8, 10.0), 3.0, RateSettings(60.0))
    assert never.ended == "no rate"


def test_a_forecast_that_was_wrong_is_only_a_beginning():
    """The model slows to 3 ms after its first 200 calls, which the forecast was made from."""
    found, _ = searched(lambda _, call: 2.0 if call < 200 else 3.0, Batcher(), 30.0)
    assert found.service_ms == 2.0
    assert found.probes[0].rate_per_s > 333  # more than it can do
    assert found.ended == "found"
    assert found.rate_per_s == pytest.approx(highest_load(10.0) / 0.003, rel=0.06)


@pytest.mark.parametrize(("begins_s", "ends_s", "share"), [(7.0, 18.0, 0.3), (30.0, 42.0, 0.8)])
def test_a_while_in_which_the_machine_crawls_does_not_spoil_the_search(begins_s, ends_s, share):
    virtual = VirtualTime()

    def run(batch):
        crawls = begins_s * 1e9 < virtual.now_ns < ends_s * 1e9
        virtual.now_ns += (10 if crawls else 1) * MS

    found = highest(run, SAMPLES, Batcher(), 10.0, RateSettings(60.0), virtual.clock)
    assert any(probe.hopeless for probe in found.probes)
    assert found.rate_per_s > share * highest_load(10.0) * 1000


def test_a_hopeless_probe_ends_early():
    found, _ = searched(lambda _, call: 2.0 if call < 200 else 6.0, Batcher(), 20.0)
    hopeless = found.probes[0]
    assert hopeless.hopeless
    assert hopeless.answered < 6000  # of more than 100,000 that fit into its share of the time
    assert hopeless.unanswered > 0
    assert "took longer" in hopeless.why


def test_a_queue_that_grows_is_no_rate_that_holds_however_high_the_limit():
    found, _ = searched(constant, Batcher(), 60_000.0)
    assert found.rate_per_s < 505
    assert any("cannot keep up" in p.why for p in found.probes)


def test_the_time_is_kept_and_what_is_known_by_then_is_told():
    late, seconds = searched(constant, Batcher(), 8.0, RateSettings(8.0))
    assert seconds <= 8.0
    assert late.ended in ("time", "found")
    slow, seconds = searched(lambda size, _: 500.0 * size, Batcher(8), 2000.0, RateSettings(20.0))
    assert slow.ended == "time"
    assert slow.rate_per_s is None
    assert slow.probes == ()
    assert "a request alone takes 500 ms" in slow.reason
    assert seconds <= 20.0


@pytest.mark.parametrize(
    ("limit_ms", "samples", "words"),
    [(0.0, SAMPLES, "above 0 ms"), (math.inf, SAMPLES, "above 0 ms"), (5.0, [], "needs samples")],
)
def test_what_cannot_be_searched_is_refused(limit_ms, samples, words):
    with pytest.raises(ValueError, match=words):
        highest(lambda _: None, samples, Batcher(), limit_ms)


@pytest.mark.parametrize(
    ("max_s", "tolerance", "most", "words"),
    [(0.0, 0.03, 1000, "max_s"), (1.0, 0.0, 1000, "tolerance"), (1.0, 0.03, 298, "299 or more")],
)
def test_settings_that_cannot_be_are_refused(max_s, tolerance, most, words):
    with pytest.raises(ValueError, match=words):
        RateSettings(max_s, tolerance, most)


# ---- the wall clock ------------------------------------------------------------------------------


def test_a_model_of_2_ms_on_the_wall_clock():
    """On a machine that others use the p99 is theirs, so the limit is wide and the claim modest."""

    def run(batch):
        end = time.perf_counter_ns() + 2 * MS
        while time.perf_counter_ns() < end:
            pass

    begin = time.perf_counter()
    found = highest(run, SAMPLES, Batcher(), 250.0, RateSettings(max_s=6.0, tolerance=0.1))
    assert time.perf_counter() - begin < 12
    assert found.probes
    assert found.service_ms >= 2.0
    assert found.rate_per_s is None or found.rate_per_s < 505
    assert found.probes[0].p50_ms >= 2.0
