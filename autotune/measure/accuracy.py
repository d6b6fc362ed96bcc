"""How well a score is known, and whether it differs from another on the same samples."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.trial import Estimate


def wilson(successes: int, samples: int, confidence: float = 0.95) -> Estimate:
    """A proportion with its score interval (Wilson 1927).

    Raises:
        ValueError: There is no sample, or more successes than samples.
    """
    if samples < 1 or not 0 <= successes <= samples:
        raise ValueError(f"{successes} of {samples} is not a proportion")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / samples
    weight = 1 + z**2 / samples
    centre = (share + z**2 / (2 * samples)) / weight
    spread = z / weight * math.sqrt(share * (1 - share) / samples + z**2 / (4 * samples**2))
    low, high = max(0.0, centre - spread), min(1.0, centre + spread)
    return Estimate(share, min(low, share), max(high, share))


def paired_difference(
    candidate: NDArray[Any],
    reference: NDArray[Any],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    repeats: int = 2000,
) -> Estimate:
    """The mean of candidate - reference with its paired-bootstrap interval.

    The percentile bootstrap over samples (Efron and Tibshirani 1993, section 13.3). The interval
    reaches at least one sample's worth to either side: that two runs agree on every sample of a
    small set does not show that they agree everywhere.

    Args:
        candidate: Scores of the samples, shape (n,).
        reference: Other scores of the same samples in the same order, shape (n,).
        seed: Of the draws.
        confidence: Of the interval.
        repeats: How many sets of n samples are drawn.

    Raises:
        ValueError: The shapes differ, there is no sample, or a score is not finite.
    """
    differences = _paired(candidate, reference)
    count = len(differences)
    values, times = np.unique(differences, return_counts=True)
    rng = np.random.default_rng(seed)
    # n draws with replacement, counted by value: the same distribution, without n x repeats places
    means = [rng.multinomial(count, times / count) @ values / count for _ in range(repeats)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    value, worth = float(differences.mean()), resolution(count)
    return Estimate(value, min(float(low), value - worth), max(float(high), value + worth))


def mcnemar(candidate: NDArray[Any], reference: NDArray[Any]) -> float:
    """The exact two-sided p-value that two 0/1 scores differ (McNemar 1947, binomial form).

    Args:
        candidate: 1 where a sample is right and 0 where not, shape (n,).
        reference: The same of the other, for the same samples in the same order.

    Raises:
        ValueError: The shapes differ, there is no sample, or a score is neither 0 nor 1.
    """
    from scipy.special import bdtr  # here: a measuring process has no need of it

    differences = _paired(candidate, reference)
    if not np.isin(np.concatenate([candidate, reference]), (0, 1)).all():
        raise ValueError("McNemar's test compares scores of 0 and 1")
    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def resolution(samples: int) -> float:
    """What one sample is worth in a score that is a mean over [0, 1].

    Raises:
        ValueError: There is no sample.
    """
    if samples < 1:
        raise ValueError("a test set has one sample or more")
    return 1 / samples


def resolution_words(samples: int) -> str:
    """The same in words: ``500 samples: one is worth 0.2 points``."""
    return f"{samples} samples: one is worth {100 * resolution(samples):.2g} points"


def _paired(candidate: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    if candidate.shape != reference.shape or candidate.ndim != 1 or len(candidate) == 0:
        raise ValueError(
            f"paired scores are two rows of equal length, not {candidate.shape} and"
            f" {reference.shape}"
        )
    differences = candidate.astype(np.float64) - reference.astype(np.float64)
    if not np.isfinite(differences).all():
        raise ValueError("a score is not finite")
    return differences
