"""Samples per second, in virtual time and once on the wall clock."""

import math
import time

import numpy as np
import pytest

from autotune.measure.offline import OfflineSettings, flood, settle
from autotune.measure.server import VirtualTime

MS = 1_000_000


class Model:
    """A call in virtual time that takes ``service_ns(i)`` and keeps what it was asked."""

    def __init__(self, service_ns):
        self.virtual = VirtualTime()
        self.now = self.virtual.clock.now
        self.service_ns = service_ns
        self.seen = []

    def __call__(self, i):
        self.virtual.now_ns += self.service_ns(i)
        self.seen.append(i)


def noisy(seed, mean_ms, rho=0.5):
    """Log-normal times of the mean that was asked for, correlated from call to call."""
    rng = np.random.default_rng(seed)
    level = rng.normal()

    def service_ns(_):
        nonlocal level
        level = rho * level + math.sqrt(1 - rho**2) * rng.normal()
        return round(mean_ms * 1e6 * math.exp(0.3 * level - 0.3**2 / 2))

    return service_ns


def test_the_rate_is_the_batch_over_the_time_it_takes():
    model = Model(lambda _: 4 * MS)
    run = flood(model, 8, now=model.now)
    assert run.throughput_per_s.value == pytest.approx(2000.0)
    assert run.throughput_per_s.low == run.throughput_per_s.high == pytest.approx(2000.0)
    assert run.precise
    assert run.stable
    assert run.seconds < 1.0
    assert model.seen == list(range(len(model.seen)))


def test_the_interval_holds_the_true_rate():
    inside = []
    for seed in range(25):
        model = Model(noisy(seed, 5.0))
        run = flood(model, 4, OfflineSettings(precision=0.03, max_s=20), model.now)
        assert run.precise
        assert run.throughput_per_s.high - run.throughput_per_s.low <= 0.06 * 800 * 1.1
        inside.append(run.throughput_per_s.low <= 800 <= run.throughput_per_s.high)
    assert np.mean(inside) >= 0.8


def test_it_goes_on_until_it_is_precise_or_its_time_is_up():
    rough, fine = (
        flood(model, 1, OfflineSettings(precision=precision, max_s=60), model.now)
        for precision in (0.1, 0.03)
        for model in [Model(noisy(1, 5.0))]
    )
    assert rough.precise
    assert fine.precise
    assert len(fine.intervals_ns) > 2 * len(rough.intervals_ns)
    model = Model(noisy(1, 5.0))
    short = flood(model, 1, OfflineSettings(precision=1e-5, max_s=1.0), model.now)
    assert not short.precise
    assert 0.9 <= short.intervals_ns.sum() / 1e9 < 1.1


def test_a_model_slower_than_the_time_has_one_sample_and_no_interval():
    model = Model(lambda _: 9_000 * MS)
    run = flood(model, 2, OfflineSettings(), model.now)
    assert len(run.intervals_ns) == 1
    assert run.throughput_per_s.value == pytest.approx(2 / 9)
    assert run.throughput_per_s.low is run.throughput_per_s.high is None
    assert not run.stable
    assert not run.precise


def test_warm_up_lasts_until_calls_stop_getting_faster():
    model = Model(lambda i: round(max(1.0, 3.0 * 0.99**i) * MS))
    typical, calls, stable = settle(model, 5.0, model.now)
    assert stable
    assert typical == MS
    assert calls > 110  # 0.99^110 = 1/3
    run = flood(model, 1, now=model.now)
    assert run.throughput_per_s.value == pytest.approx(1000.0)


def test_warm_up_ends_at_its_cap_where_nothing_settles():
    model = Model(lambda i: (1 + i) * MS)
    typical, calls, stable = settle(model, 0.4, model.now)
    assert not stable
    assert typical > MS
    assert model.now() < 0.5e9
    assert calls == len(model.seen)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="a batch holds 1 sample or more, not 0"):
        flood(lambda _: None, 0)


def test_a_model_of_2_ms_on_the_wall_clock():
    def call(_):
        end = time.perf_counter_ns() + 2 * MS
        while time.perf_counter_ns() < end:
            pass

    run = flood(call, 4, OfflineSettings(precision=0.05, max_s=1.0))
    assert 0 < run.throughput_per_s.value <= 2000
    assert run.throughput_per_s.value == pytest.approx(4e9 / run.intervals_ns.mean())
    assert run.intervals_ns.min() >= 2 * MS
    assert run.facts()["batches"] == len(run.intervals_ns)
