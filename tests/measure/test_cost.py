"""What a million inferences cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.measure.cost import cost_estimate, cost_usd_per_million
from autotune.trial import Estimate


def test_a_dollar_an_hour_at_a_thousand_a_second():
    assert cost_usd_per_million(3.6, 1000.0) == pytest.approx(1.0)
    assert cost_usd_per_million(0.0, 1000.0) == 0.0


@pytest.mark.parametrize(
    ("price", "rate"), [(1.0, 0.0), (1.0, -1.0), (-1.0, 1.0), (1.0, float("nan"))]
)
def test_what_costs_nothing_known_is_refused(price, rate):
    with pytest.raises(ValueError, match=r"throughput|price"):
        cost_usd_per_million(price, rate)


@given(price=st.floats(0.01, 100), rate=st.floats(1, 1e6), spread=st.floats(0, 0.9))
def test_the_interval_turns_around(price, rate, spread):
    found = cost_estimate(price, Estimate(rate, rate * (1 - spread), rate * (1 + spread)))
    assert found.low <= found.value <= found.high
    assert found.high == cost_usd_per_million(price, rate * (1 - spread))


def test_bounds_that_are_unknown_stay_so():
    found = cost_estimate(1.0, Estimate(100.0, None, 120.0))
    assert found.high is None
    assert found.low == cost_usd_per_million(1.0, 120.0)
