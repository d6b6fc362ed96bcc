"""Each scenario on callables whose behaviour is known, on the real clock."""

import itertools
import json
import time
from dataclasses import replace

import numpy as np
import pytest

from autotune.engine import scenarios
from autotune.measure.batcher import Batcher
from autotune.measure.loop import LoopSettings
from autotune.measure.reference import Watch
from autotune.measure.server import VirtualTime

INPUTS = [{"x": np.full((1, 2), i, dtype=np.float32)} for i in range(16)]
CALM = Watch(1.0, burst=lambda: 1.0, waited=lambda: 0)
BRIEF = LoopSettings(
    warmup_calls=2, warmup_max_s=0.05, min_s=0.05, max_s=0.2, precision=0.5, tail_max_s=1.0
)


def sleeping(seconds):
    def run(batch):
        time.sleep(seconds)
        return batch["x"]

    return run


def test_a_model_slower_than_the_time_is_partial_and_says_so():
    seen = scenarios.single_stream(sleeping(0.15), INPUTS, 1, BRIEF, CALM)
    assert seen.facts["partial"]
    assert len(seen.samples_ns) < 6
    assert seen.columns["latency_p50_ms"].value >= 150
    assert seen.columns["latency_p50_ms"].high is None
    (warning,) = seen.warnings
    assert warning.startswith("partial: of requests that take 0.15")
    assert f"{len(seen.samples_ns)} fitted into the 0.2 s" in warning


def test_a_model_that_is_fast_enough_is_not():
    seen = scenarios.single_stream(sleeping(0.001), INPUTS, 1, BRIEF, CALM)
    assert not seen.facts["partial"]
    assert seen.warnings == ()


def test_offline_counts_samples():
    seen = scenarios.flood(sleeping(0.002), INPUTS, 8, BRIEF, CALM)
    assert 100 < seen.columns["throughput_per_s"].value <= 4000
    assert set(seen.columns) == {"throughput_per_s"}
    assert seen.facts["samples"] == len(seen.samples_ns)
    assert seen.facts["batch"] == 8


def test_offline_of_a_slow_model_is_partial():
    seen = scenarios.flood(sleeping(0.12), INPUTS, 1, BRIEF, CALM)
    assert seen.facts["partial"]
    assert seen.columns["throughput_per_s"].low is None
    assert "too few for an interval" in seen.warnings[0]


def served(service_ms, batcher, p99_ms, watch=CALM):
    """A server in virtual time, with time enough; a batch of any size takes ``service_ms``."""
    virtual = VirtualTime()

    def run(batch):
        virtual.now_ns += round(service_ms * 1e6)

    ample = replace(BRIEF, tail_max_s=200.0)
    return scenarios.server(run, INPUTS, batcher, p99_ms, ample, watch, virtual.clock)


def test_a_server_tells_its_rate_and_the_latencies_under_it():
    seen = served(2.0, Batcher(4, 0.0), 10.0)
    rate = seen.columns["server_rate_per_s"]
    assert 500 < rate.value == rate.low < rate.high < 2000  # one by one it would be below 500
    p50, p90, p99 = (seen.columns[f"latency_{q}_ms"] for q in ("p50", "p90", "p99"))
    assert 2 <= p50.value <= p90.value <= p99.value <= p99.high <= 10
    assert 1 < seen.columns["mean_batch"].value < 4
    assert p99.value == pytest.approx(np.quantile(seen.samples_ns, 0.99) / 1e6)
    told = seen.facts["server"]
    assert told["ended"] == "found"
    assert told["rate_per_s"] == told["latencies_at_per_s"] == rate.value
    assert told["fails_at_per_s"] == rate.high
    assert (told["max_batch"], told["max_queue_delay_ms"], told["p99_limit_ms"]) == (4, 0.0, 10.0)
    assert rate.value in [probe["rate_per_s"] for probe in told["probes"]]
    assert seen.calls > 1000
    assert seen.warnings == ()
    json.dumps(seen.facts, allow_nan=False)


def test_a_limit_that_no_rate_meets_is_rate_zero_with_the_reason():
    seen = served(2.0, Batcher(), 1.0)
    rate = seen.columns["server_rate_per_s"]
    assert (rate.value, rate.low) == (0.0, 0.0)
    told = seen.facts["server"]
    assert told["ended"] == "no rate"
    assert told["rate_per_s"] is None
    assert told["latencies_at_per_s"] == min(p["rate_per_s"] for p in told["probes"])
    assert seen.columns["latency_p50_ms"].value >= 2
    (warning,) = seen.warnings
    assert warning.startswith("no rate meets p99 <= 1 ms: at ")


def test_a_server_too_slow_for_one_probe_is_partial():
    seen = scenarios.server(sleeping(0.1), INPUTS, Batcher(), 1000.0, BRIEF, CALM)
    assert seen.facts["partial"]
    assert seen.columns["server_rate_per_s"].value == 0
    assert seen.columns["latency_p50_ms"].value >= 100
    assert "the time was up before a rate met" in seen.warnings[0]


def test_a_clock_too_coarse_for_a_request_is_told(monkeypatch):
    monkeypatch.setattr(scenarios, "clock_overhead_ns", lambda: 1_000_000)
    seen = scenarios.server(sleeping(0.001), INPUTS, Batcher(), 0.1, BRIEF, CALM)
    assert "the clock is too coarse: it tells 1 ms, and a request takes 1." in seen.warnings[-1]


def test_what_goes_on_beside_a_server_marks_it():
    clock = itertools.count(0, 10**11)
    robbed = Watch(1.0, burst=lambda: 1.0, waited=lambda: next(clock))
    seen = served(2.0, Batcher(), 10.0, robbed)
    assert seen.facts["noisy"]
    assert seen.facts["run_queue_share"] > 1
    assert seen.facts["disturbed_blocks"] == seen.facts["blocks"] > 0


def test_what_was_disturbed_is_served_again():
    told = itertools.chain([0, 10**12], itertools.repeat(2 * 10**12))  # it waits at first alone
    robbed = Watch(1.0, burst=lambda: 1.0, waited=lambda: next(told))
    seen = served(2.0, Batcher(), 10.0, robbed)
    assert not seen.facts["noisy"]
    assert seen.facts["run_queue_share"] == 0
    assert seen.facts["retries"] == seen.facts["disturbed_blocks"] == 1
    assert seen.facts["blocks"] > 3
