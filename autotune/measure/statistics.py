"""Percentiles and means of latencies, each with an interval (measurement.md, section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.trial import Estimate

Floats = NDArray[np.float64]

BLOCKS = 20
"""Blocks that a stream is cut into for the interval of its mean (Schmeiser 1982: 10 to 30)."""
CONFIDENCE = 0.95
_MOST_CORRELATED = 0.99
_BEYOND = 20
_TOLD = 1.96


def latency_columns(samples_ns: NDArray[Any], batch: int) -> dict[str, Estimate]:
    """The trial columns that one closed loop of requests gives.

    Args:
        samples_ns: Latencies of single requests in their order, shape (n,), n >= 1.
        batch: Samples in one request.

    Returns:
        ``latency_p50_ms``, ``latency_p90_ms``, ``latency_p99_ms``, ``latency_mean_ms`` and
        ``throughput_per_s``, which is ``batch`` over the mean of the same samples.

    Raises:
        ValueError: There is no sample, or a latency is not positive.
    """
    if not np.all(np.asarray(samples_ns) > 0):
        raise ValueError("a latency is above zero")
    samples_ms = _stream(samples_ns) / 1e6
    average = mean(samples_ms)
    return {
        "latency_p50_ms": quantile(samples_ms, 0.50),
        "latency_p90_ms": quantile(samples_ms, 0.90),
        "latency_p99_ms": quantile(samples_ms, 0.99),
        "latency_mean_ms": average,
        "throughput_per_s": _rate(average, batch),
    }


def quantile(samples_ms: NDArray[Any], q: float, confidence: float = CONFIDENCE) -> Estimate:
    """The ``q``-quantile of a stream with its order-statistic interval.

    The ranks are those of ``quantile_size`` independent samples, mapped to the same levels of the
    whole stream. The bounds are None where so many samples cannot tell them.

    Args:
        samples_ms: The stream in its order, shape (n,), n >= 1.
        q: In (0, 1).
        confidence: Of the interval, in (0, 1).

    Raises:
        ValueError: There is no sample, or one is not finite.
    """
    ordered = np.sort(_stream(samples_ms))
    value = float(np.quantile(ordered, q))
    size = math.floor(quantile_size(samples_ms, q))
    ranks = order_statistics(size, q, confidence)
    if ranks is None:
        return Estimate(value)
    low = float(ordered[_stretch(ranks[0], size, len(ordered), math.floor) - 1])
    high = float(ordered[_stretch(ranks[1], size, len(ordered), math.ceil) - 1])
    return Estimate(value, min(low, value), max(high, value))


def upper_bound(samples_ms: NDArray[Any], q: float, confidence: float = CONFIDENCE) -> float | None:
    """The one-sided upper bound of the ``q``-quantile; None where the samples cannot tell it.

    For the p99 at 95 % it needs 299 effective samples (1 - 0.99^n >= 0.95).

    Raises:
        ValueError: There is no sample, or one is not finite.
    """
    samples = _stream(samples_ms)
    rank = pooled_rank(len(samples), quantile_size(samples, q), q, confidence)
    return None if rank is None else float(np.sort(samples)[rank - 1])


def pooled_rank(
    count: int, effective: float, q: float, confidence: float = CONFIDENCE
) -> int | None:
    """The rank of the ``q``-quantile's upper bound among samples worth fewer independent ones.

    Args:
        count: Of the samples, of one stream or of several.
        effective: Of the independent ones that they are worth, see ``quantile_size``.
        q: In (0, 1).
        confidence: Of the bound, in (0, 1).

    Returns:
        From 1 to ``count``; None where so many samples cannot tell it.
    """
    size = math.floor(effective)
    rank = upper_rank(size, q, confidence)
    return None if rank is None else _stretch(rank, size, count, math.ceil)


def mean(samples: NDArray[Any], confidence: float = CONFIDENCE) -> Estimate:
    """The mean of a stream; its interval from the means of consecutive blocks.

    Student's t over up to ``BLOCKS`` blocks ("batch means": Law, Simulation Modeling and Analysis,
    section 9.5.3) of four effective samples or more, so that correlation is paid for. The bounds
    are None where that makes fewer than five blocks.

    Raises:
        ValueError: There is no sample, or one is not finite.
    """
    stream = _stream(samples)
    value = float(stream.mean())
    blocks = min(BLOCKS, math.floor(effective_size(stream) / 4))
    if blocks < 5:
        return Estimate(value)
    length = len(stream) // blocks
    means = stream[len(stream) - blocks * length :].reshape(blocks, length).mean(axis=1)
    half = float(_student((1 + confidence) / 2, blocks - 1) * means.std(ddof=1) / math.sqrt(blocks))
    return Estimate(value, value - half, value + half)


def order_statistics(size: int, q: float, confidence: float) -> tuple[int, int] | None:
    """The tightest ranks l < u whose order statistics hold the ``q``-quantile between them.

    X(l) <= quantile < X(u) has the probability sum_{i=l}^{u-1} C(n,i) q^i (1-q)^(n-i) (David and
    Nagaraja, Order Statistics, section 7.1); of pairs equally tight the surest is taken.

    Returns:
        Ranks from 1 to ``size``; None where even (1, size) is not sure enough.
    """
    if size < 2:
        return None
    start, below = _binomial(size, q)
    # X(l) may be any rank whose l - 1 is in the table; X(u) is the first that is sure enough
    lows = start + np.arange(len(below)) + 1
    highs = start + np.searchsorted(below, below[lows - 1 - start] + confidence) + 1
    fits = (highs <= size) & (highs <= start + len(below))
    if not fits.any():
        return None
    lows, highs = lows[fits], highs[fits]
    sure = below[highs - 1 - start] - below[lows - 1 - start]
    best = np.lexsort((-sure.round(12), highs - lows))[0]
    return int(lows[best]), int(highs[best])


def upper_rank(size: int, q: float, confidence: float) -> int | None:
    """The smallest rank u with P(quantile <= X(u)) = P(Binomial(size, q) < u) >= confidence.

    Returns:
        A rank from 1 to ``size``; None where even the largest sample is not sure enough.
    """
    if size < 1:
        return None
    start, below = _binomial(size, q)
    rank = start + int(np.searchsorted(below, confidence)) + 1
    return rank if rank <= size else None


def autocorrelation(samples: NDArray[Any]) -> float:
    """The lag-1 autocorrelation of the samples' ranks, in [-1, 1]; 0 for a constant stream.

    Ranks (Wald and Wolfowitz 1943), because one outlier hides the correlation of raw latencies.
    """
    _, place, times = np.unique(samples, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - (times - 1) / 2)[place]
    ranks -= ranks.mean()
    square = float(ranks @ ranks)
    return float(ranks[1:] @ ranks[:-1]) / square if square > 0 else 0.0


def effective_size(samples: NDArray[Any]) -> float:
    """How many independent samples tell as much of the mean: n (1 - rho) / (1 + rho).

    With rho in [0, 0.99]. Exact for a first-order autoregression (Bayley and Hammersley 1946).
    """
    rho = min(max(autocorrelation(samples), 0.0), _MOST_CORRELATED)
    return len(samples) * (1 - rho) / (1 + rho)


def quantile_size(samples: NDArray[Any], q: float) -> float:
    """How many independent samples tell as much of the ``q``-quantile.

    What neighbours share of being slow, they share less of being slower than most others. So what
    counts is the correlation of lying at or below the quantile, summed over the lags until it is no
    longer told from 0 at 95 % (Bartlett 1946). Where fewer than ``_BEYOND`` samples lie beyond the
    quantile, the level beyond which so many do stands for it.
    """
    count = len(samples)
    margin = min(0.5, _BEYOND / count)
    level = np.quantile(samples, min(max(q, margin), 1 - margin))
    below = (np.asarray(samples) <= level).astype(np.float64)
    below -= below.mean()
    square = float(below @ below)
    if square == 0:
        return count
    spectrum = np.fft.rfft(below, 1 << (2 * count - 1).bit_length())
    correlations = np.fft.irfft(spectrum * spectrum.conj())[:count] / square
    lags = int(np.argmax(correlations < _TOLD / math.sqrt(count)))
    return count / max(1.0, 2 * float(correlations[:lags].sum()) - 1)


def block_bootstrap(
    samples: NDArray[Any],
    statistic: Callable[[Floats], float],
    *,
    seed: int,
    confidence: float = CONFIDENCE,
    repeats: int = 1000,
) -> Estimate:
    """Any statistic of a correlated stream with its percentile interval.

    Moving blocks (Kuensch 1989), laid around the circle (Politis and Romano 1992), of
    n^(1/3) max(1, 2 rho / (1 - rho^2))^(2/3) samples (Carlstein 1986).

    Args:
        samples: The stream in its order, shape (n,), n >= 1.
        statistic: From an array of shape (n,) to a finite number.
        seed: Of the draws.
        confidence: Of the interval.
        repeats: How many streams are drawn.

    Raises:
        ValueError: There is no sample, or one is not finite.
    """
    stream = _stream(samples)
    count = len(stream)
    rho = min(max(autocorrelation(stream), 0.0), _MOST_CORRELATED)
    length = math.ceil(count ** (1 / 3) * max(1.0, 2 * rho / (1 - rho**2)) ** (2 / 3))
    rng = np.random.default_rng(seed)
    found = np.empty(repeats)
    for repeat in range(repeats):
        starts = rng.integers(0, count, size=math.ceil(count / length))
        places = (starts[:, None] + np.arange(length)).ravel()[:count] % count
        found[repeat] = statistic(stream[places])
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(statistic(stream)), float(low), float(high))


def _student(level: float, freedom: int) -> float:
    """The quantile of Student's t, within 0.001 from four degrees of freedom up, at 97.5 %.

    Abramowitz and Stegun 26.7.5. Not scipy's: a measuring process comes here, and importing that
    would cost each one a quarter of a second.
    """
    z = NormalDist().inv_cdf(level)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum((term / freedom**power for power, term in enumerate(terms)), 0.0)


def _binomial(size: int, q: float) -> tuple[int, Floats]:
    """P(Binomial(size, q) <= k) for k from the first value returned on: all but certain k.

    Of the mass, less than 1e-15 lies outside: nine standard deviations and nine to either side.
    """
    reach = 9 * math.sqrt(size * q * (1 - q)) + 9
    start = max(0, math.floor(size * q - reach))
    counts = np.arange(start + 1, min(size, math.ceil(size * q + reach)) + 1)
    steps = np.log((size - counts + 1) / counts * (q / (1 - q)))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    mass = np.exp(logs - logs.max())
    return start, np.cumsum(mass) / mass.sum()


def _stretch(rank: int, size: int, count: int, rounded: Callable[[float], int]) -> int:
    """The rank among ``count`` whose level, rank / (count + 1), is that of ``rank`` in ``size``."""
    return min(max(rounded(rank * (count + 1) / (size + 1)), 1), count)


def _rate(average: Estimate, batch: int) -> Estimate:
    """Samples per second from the mean latency in ms; its bounds change places."""
    high = None if average.low is None or average.low <= 0 else 1000 * batch / average.low
    low = None if average.high is None else 1000 * batch / average.high
    return Estimate(1000 * batch / average.value, low, high)


def _stream(samples: NDArray[Any]) -> Floats:
    stream = np.asarray(samples, dtype=np.float64)
    if stream.ndim != 1 or len(stream) == 0 or not np.isfinite(stream).all():
        raise ValueError("statistics need a row of one finite number or more")
    return stream
