"""What a trial's columns become: the cost, and a server that meets its limit at no rate."""

from dataclasses import replace

import pytest

import autotune
from autotune.scenario import Scenario
from autotune.search.effort import effort
from autotune.search.outcome import completed, priced
from autotune.slo import limit
from autotune.trial import Estimate, Measurement

REASON = "no rate meets p99 <= 5 ms: at 90 requests/s the p99 is 7 ms"


def dollar(target):
    """The target at a price at which a lane costs 3.6 USD an hour: 1 USD a million at 1000/s."""
    share = len(target.machine.cores) / target.lane_cores
    return replace(target, price_per_hour=3.6 * share)


def test_a_servers_rate_is_what_costs(target):
    values = {"throughput_per_s": Estimate(9.0), "server_rate_per_s": Estimate(1000.0, 1000.0)}
    found = priced(values, dollar(target))["cost_usd_per_million"]
    assert found.value == pytest.approx(1.0)
    assert found.low is None  # no rate failed: it may be as cheap as you like
    assert found.high == pytest.approx(1.0)


def test_without_a_rate_or_a_price_nothing_has_a_cost(target):
    assert priced({"server_rate_per_s": Estimate(0.0, 0.0, 90.0)}, dollar(target)) == {}
    assert priced({}, dollar(target)) == {}
    free = replace(target, price_per_hour=None)
    assert priced({"throughput_per_s": Estimate(9.0)}, free) == {}


def test_no_rate_is_told_with_its_reason():
    facts = {"server": {"reason": REASON}}
    held = Measurement({"server_rate_per_s": Estimate(5.0)}, facts)
    assert completed(held).reason == ""
    assert completed(Measurement({"server_rate_per_s": Estimate(0.0)}, facts)).reason == REASON
    assert completed(Measurement({"latency_p50_ms": Estimate(1.0)})).reason == ""


@pytest.mark.parametrize(
    ("p99_ms", "seconds"), [(0.5, 8.0), (5.0, 8.0), (20.0, 12.0), (1000.0, 30.0)]
)
def test_a_rate_is_looked_for_as_long_as_the_limit_asks_within_bounds(tiny, p99_ms, seconds):
    spec = autotune.load(tiny / "space.yaml")
    assert effort(replace(spec, scenario=Scenario("server", p99_ms))).tail_max_s == seconds


def test_one_by_one_the_p99_decides_how_long_is_measured(tiny):
    spec = autotune.load(tiny / "space.yaml")
    limits = (limit("latency_p99 <= 3ms", {}), limit("latency_p99 <= 2ms", {}))
    asked = effort(replace(spec, slo=replace(spec.slo, limits=limits)))
    assert (asked.tail_below_ms, asked.tail_max_s) == (2.0, 10.0)
    assert effort(spec).tail_below_ms is None
