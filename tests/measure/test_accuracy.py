"""What a test set can tell."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from autotune.measure.accuracy import (
    mcnemar,
    paired_difference,
    resolution,
    resolution_words,
    wilson,
)


@given(samples=st.integers(1, 5000), data=st.data())
def test_wilson_is_scipys(samples, data):
    successes = data.draw(st.integers(0, samples))
    ours = wilson(successes, samples)
    theirs = binomtest(successes, samples).proportion_ci(0.95, method="wilson")
    assert ours.value == successes / samples
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


@pytest.mark.parametrize(("successes", "samples"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_proportion(successes, samples):
    with pytest.raises(ValueError, match="not a proportion"):
        wilson(successes, samples)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300))
def test_mcnemar_is_the_binomial_test_of_the_samples_that_differ(pairs):
    candidate, reference = np.array(pairs).T.astype(int)
    gained = sum(a and not b for a, b in pairs)
    lost = sum(b and not a for a, b in pairs)
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(candidate, reference) == pytest.approx(expected)
    assert mcnemar(reference, candidate) == pytest.approx(expected)


def test_mcnemar_wants_right_and_wrong():
    with pytest.raises(ValueError, match="0 and 1"):
        mcnemar(np.array([0.5]), np.array([1.0]))


def test_a_paired_difference_is_tighter_than_two_proportions():
    """On the same 500 samples, of which 10 turn wrong and 2 right: 1.6 points lost."""
    reference = np.repeat([1.0, 0.0], [480, 20])
    candidate = reference.copy()
    candidate[:10], candidate[-2:] = 0.0, 1.0
    found = paired_difference(candidate, reference, seed=1)
    assert found.value == pytest.approx(-0.016)
    spread = 1.96 * math.sqrt((12 / 500 - 0.016**2) / 500)
    assert found.low == pytest.approx(-0.016 - spread, abs=0.002)
    assert found.high == pytest.approx(-0.016 + spread, abs=0.002)
    alone = wilson(472, 500)
    assert found.high - found.low < alone.high - alone.low
    assert found == paired_difference(candidate, reference, seed=1)
    assert found.low != paired_difference(candidate[:499], reference[:499], seed=1).low


def test_equal_scores_differ_by_nothing_give_or_take_one_sample():
    scores = np.ones(500)
    found = paired_difference(scores, scores)
    assert (found.low, found.value, found.high) == (-0.002, 0.0, 0.002)


def test_paired_intervals_hold_the_true_difference():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(600):
        reference = rng.normal(size=100)
        candidate = reference + rng.normal(0.1, 0.3, size=100)
        found = paired_difference(candidate, reference, seed=seed, repeats=300)
        inside += found.low <= 0.1 <= found.high
    assert 0.90 <= inside / 600 <= 0.97  # the percentile bootstrap of 100 samples: about 0.935


@pytest.mark.parametrize(
    ("candidate", "reference"),
    [([1.0], [1.0, 0.0]), ([], []), ([[1.0]], [[1.0]]), ([math.nan], [1.0])],
)
def test_what_is_no_pair_is_refused(candidate, reference):
    with pytest.raises(ValueError, match=r"paired|finite"):
        paired_difference(np.array(candidate), np.array(reference))


def test_what_a_sample_is_worth():
    assert resolution(500) == 0.002
    assert resolution_words(500) == "500 samples: one is worth 0.2 points"
    with pytest.raises(ValueError, match="one sample"):
        resolution(0)
