"""What a million inferences cost (measurement.md, section 6)."""

from __future__ import annotations

from autotune.trial import Estimate


def cost_usd_per_million(price_per_hour: float, throughput_per_s: float) -> float:
    """USD for a million samples: price / 3600 / throughput x 1e6.

    Args:
        price_per_hour: USD for the lane: its share of the machine.
        throughput_per_s: Samples a second on that lane.

    Raises:
        ValueError: The throughput is not positive, or the price is negative.
    """
    if not throughput_per_s > 0:
        raise ValueError(f"a throughput is above zero, not {throughput_per_s}")
    if not price_per_hour >= 0:
        raise ValueError(f"a price is not negative: {price_per_hour}")
    return price_per_hour / 3600 / throughput_per_s * 1e6


def cost_estimate(price_per_hour: float, throughput_per_s: Estimate) -> Estimate:
    """The same with the interval that the throughput's gives; its bounds change places.

    Raises:
        ValueError: As for ``cost_usd_per_million``.
    """
    low, high = throughput_per_s.low, throughput_per_s.high
    return Estimate(
        cost_usd_per_million(price_per_hour, throughput_per_s.value),
        None if high is None else cost_usd_per_million(price_per_hour, high),
        None if low is None or low <= 0 else cost_usd_per_million(price_per_hour, low),
    )
