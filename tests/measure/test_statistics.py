"""Intervals hold what they promise: laws, exact small cases, and coverage of known streams."""

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.signal import lfilter
from scipy.stats import binom, multivariate_normal, norm, spearmanr
from scipy.stats import t as student

from autotune.measure import statistics

LATENCIES = hnp.arrays(
    np.float64, st.integers(1, 400), elements=st.floats(1e-3, 1e3, allow_subnormal=False)
)
LEVELS = st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9, 0.99])


def stream(rng: np.random.Generator, count: int, rho: float) -> np.ndarray:
    """A log-normal first-order autoregression, stationary from its start: median 1, sigma 0.1."""
    noise = rng.normal(size=count) * math.sqrt(1 - rho**2)
    noise[0] /= math.sqrt(1 - rho**2)
    return np.exp(0.1 * lfilter([1], [1, -rho], noise))


# ---- ranks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("size", [1, 2, 5, 6, 10, 28, 29, 59, 100, 299, 400])
def test_the_pair_is_the_tightest_that_is_sure_enough(size, q):
    """P(X(low) <= quantile < X(high)) is P(low <= Binomial < high); here by scipy."""
    below = binom.cdf(np.arange(size + 1), size, q)
    pairs = {
        (low, high): below[high - 1] - below[low - 1]
        for low in range(1, size + 1)
        for high in range(low + 1, size + 1)
        if below[high - 1] - below[low - 1] >= 0.95
    }
    found = statistics.order_statistics(size, q, 0.95)
    if not pairs:
        assert found is None
    else:
        tightest = min(high - low for low, high in pairs)
        surest = max(sure for (low, high), sure in pairs.items() if high - low == tightest)
        assert found in pairs
        assert found[1] - found[0] == tightest
        assert pairs[found] == pytest.approx(surest, abs=1e-11)


@given(size=st.integers(1, 50_000), q=st.floats(0.01, 0.99), confidence=st.floats(0.5, 0.999))
def test_the_upper_rank_is_the_smallest_that_is_sure_enough(size, q, confidence):
    rank = statistics.upper_rank(size, q, confidence)
    if rank is None:
        assert binom.cdf(size - 1, size, q) < confidence + 1e-11
    else:
        assert 1 <= rank <= size
        assert binom.cdf(rank - 1, size, q) >= confidence - 1e-11
        assert rank == 1 or binom.cdf(rank - 2, size, q) < confidence + 1e-11


@pytest.mark.parametrize(("over", "needed"), [(0, 299), (1, 473), (2, 628), (5, 1049), (10, 1693)])
def test_the_p99_bound_needs_as_many_samples_as_mlperf_says(over, needed):
    """With ``over`` samples above the bound it takes ``needed``: MLPerf's early-stopping rule."""
    assert statistics.upper_rank(needed, 0.99, 0.95) == needed - over
    fewer = statistics.upper_rank(needed - 1, 0.99, 0.95)
    assert fewer is None if over == 0 else fewer == needed - over


# ---- laws ----------------------------------------------------------------------------------------


@given(samples=LATENCIES, q=LEVELS)
def test_the_bounds_are_samples_around_the_value(samples, q):
    found = statistics.quantile(samples, q)
    assert found.value == np.quantile(samples, q)
    assert (found.low is None) == (found.high is None)
    if found.low is not None:
        assert samples.min() <= found.low <= found.value <= found.high <= samples.max()


@given(samples=LATENCIES)
def test_quantiles_rise_with_their_level(samples):
    columns = [statistics.quantile(samples, q) for q in (0.1, 0.5, 0.9, 0.99)]
    for lower, higher in pairwise(columns):
        assert lower.value <= higher.value
        if higher.low is not None and lower.low is not None:
            assert lower.low <= higher.low
            assert lower.high <= higher.high


@given(samples=LATENCIES, q=LEVELS, power=st.integers(-10, 10))
def test_scaling_the_samples_scales_the_estimate(samples, q, power):
    scale = 2.0**power  # exact in binary, so equality is too
    one, two = statistics.quantile(samples, q), statistics.quantile(samples * scale, q)
    assert two.value == pytest.approx(one.value * scale, rel=1e-12)
    assert two.low == (None if one.low is None else one.low * scale)
    assert two.high == (None if one.high is None else one.high * scale)


@given(samples=LATENCIES)
def test_the_rank_correlation_is_spearmans_up_to_its_ends(samples):
    found = statistics.autocorrelation(samples)
    assert -1 <= found <= 1
    assert 0 < statistics.effective_size(samples) <= len(samples)


@given(samples=LATENCIES, q=LEVELS)
def test_no_stream_tells_more_than_as_many_independent_samples(samples, q):
    assert 0 < statistics.quantile_size(samples, q) <= len(samples)


@pytest.mark.parametrize(("q", "lags"), [(0.5, 1.60), (0.99, 0.46)])
def test_the_size_for_a_quantile_is_that_of_its_indicator(q, lags):
    """Twice the sum, over the lags k, of (P(X_0, X_k <= x) - q^2) / (q - q^2), x the quantile."""
    levels = [norm.ppf(q)] * 2
    exact = [
        multivariate_normal(cov=[[1, 0.55**k], [0.55**k, 1]]).cdf(levels) for k in range(1, 12)
    ]
    assert 2 * sum((p - q**2) / (q - q**2) for p in exact) == pytest.approx(lags, abs=0.01)
    size = statistics.quantile_size(stream(np.random.default_rng(0), 100_000, 0.55), q)
    assert size == pytest.approx(100_000 / (1 + lags), rel=0.1)


def test_the_autocorrelation_of_a_known_stream():
    samples = stream(np.random.default_rng(0), 20_000, 0.55)
    assert statistics.autocorrelation(samples) == pytest.approx(
        spearmanr(samples[1:], samples[:-1]).statistic, abs=1e-3
    )
    outlier = np.append(samples, 1e9)
    assert statistics.autocorrelation(outlier) == pytest.approx(0.53, abs=0.02)
    assert statistics.effective_size(samples) == pytest.approx(20_000 * 0.47 / 1.53, rel=0.05)


def test_a_constant_stream_is_independent_and_known():
    assert statistics.effective_size(np.full(100, 2.0)) == 100
    assert statistics.quantile_size(np.full(100, 2.0), 0.5) == 100
    found = statistics.quantile(np.full(100, 2.0), 0.5)
    assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0)


def test_correlation_widens_the_interval():
    rng = np.random.default_rng(1)
    samples = stream(rng, 1000, 0.8)
    shuffled = rng.permutation(samples)
    one, two = statistics.quantile(samples, 0.5), statistics.quantile(shuffled, 0.5)
    assert one.value == two.value
    assert 2 < (one.high - one.low) / (two.high - two.low) < 5  # sqrt(1.8 / 0.2) = 3


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf], [[1.0], [2.0]]])
def test_what_is_no_stream_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        statistics.quantile(np.array(bad), 0.5)


# ---- exact cases ---------------------------------------------------------------------------------


def test_the_median_of_ten_lies_between_the_second_and_the_ninth():
    """P = 1 - 2 (1 + 10) / 2^10 = 0.9785, the tightest above 95 % (David and Nagaraja)."""
    shuffled = np.array([5.0, 4.0, 6.0, 3.0, 7.0, 2.0, 8.0, 1.0, 9.0, 10.0])
    assert statistics.autocorrelation(shuffled) < 0
    found = statistics.quantile(shuffled, 0.5)
    assert (found.low, found.value, found.high) == (2.0, 5.5, 9.0)


def test_five_samples_have_a_median_and_no_interval():
    found = statistics.quantile(np.arange(1.0, 6.0), 0.5)
    assert (found.low, found.value, found.high) == (None, 3.0, None)


def test_the_p99_bound_is_unknown_below_299_samples():
    samples = np.random.default_rng(3).permutation(np.arange(1.0, 300.0))
    assert statistics.autocorrelation(samples) < 0
    assert statistics.upper_bound(samples, 0.99) == 299.0
    assert statistics.upper_bound(samples[:298], 0.99) is None
    assert statistics.quantile(samples[:298], 0.99).high is None
    correlated = np.sort(samples)
    assert statistics.upper_bound(correlated, 0.99) is None


# ---- columns -------------------------------------------------------------------------------------


def test_the_columns_agree_with_each_other():
    samples = np.round(1e6 * stream(np.random.default_rng(0), 2000, 0.3)).astype(np.int64)
    columns = statistics.latency_columns(samples, batch=8)
    assert list(columns) == [
        "latency_p50_ms",
        "latency_p90_ms",
        "latency_p99_ms",
        "latency_mean_ms",
        "throughput_per_s",
    ]
    assert columns["latency_p90_ms"] == statistics.quantile(samples / 1e6, 0.9)
    average, rate = columns["latency_mean_ms"], columns["throughput_per_s"]
    assert average.value == pytest.approx(samples.mean() / 1e6)
    assert rate.value == pytest.approx(8 * len(samples) / (samples.sum() / 1e9))
    assert rate.low == pytest.approx(8000 / average.high)
    assert rate.high == pytest.approx(8000 / average.low)
    assert average.low < average.value < average.high


def test_a_single_sample_has_values_and_no_bounds():
    for column in statistics.latency_columns(np.array([2_000_000]), batch=1).values():
        assert column.value in (2.0, 500.0)
        assert column.low is column.high is None


@pytest.mark.parametrize("bad", [[0, 5], [-1], []])
def test_a_latency_is_above_zero(bad):
    with pytest.raises(ValueError, match=r"zero|one finite"):
        statistics.latency_columns(np.array(bad, dtype=np.int64), batch=1)


# ---- coverage ------------------------------------------------------------------------------------

RUNS = 1000


def covered(seed: int, count: int, rho: float, q: float) -> tuple[float, float]:
    """The shares of runs whose interval, and whose upper bound, hold the true quantile."""
    rng = np.random.default_rng(seed)
    truth = math.exp(0.1 * norm.ppf(q))
    inside = under = 0
    for _ in range(RUNS):
        samples = stream(rng, count, rho)
        found = statistics.quantile(samples, q)
        inside += found.low <= truth <= found.high
        under += truth <= statistics.upper_bound(samples, q)
    return inside / RUNS, under / RUNS


@pytest.mark.parametrize(("count", "q"), [(200, 0.5), (1000, 0.9), (2000, 0.99)])
def test_95_percent_intervals_of_independent_samples_hold_93_to_97_percent(count, q):
    inside, under = covered(count, count, 0.0, q)
    assert 0.93 <= inside <= 0.97  # 0.952, 0.955, 0.958 exactly, by the ranks of ``count``
    assert 0.94 <= under <= 0.99


@pytest.mark.parametrize(("count", "q"), [(400, 0.5), (2000, 0.9), (2000, 0.99)])
def test_correlated_streams_are_covered_too(count, q):
    """A lag-1 correlation of 0.55, as was seen; ignoring it, the p50's interval holds 78 %."""
    inside, under = covered(count, count, 0.55, q)
    assert 0.92 <= inside <= 0.98
    assert 0.92 <= under <= 0.99


def test_few_latencies_beyond_a_quantile_do_not_pass_for_independent_ones():
    """Of 500 calls five are above the p99, too few to show that such calls come in runs."""
    rng = np.random.default_rng(2)
    sizes = [statistics.quantile_size(stream(rng, 500, 0.9), 0.99) for _ in range(50)]
    assert np.median(sizes) < 250


def test_the_bound_of_a_queue_pays_for_its_busy_periods():
    """Of M/D/1 at load 0.8 the p99 is 11.36 service times (Franx; see test_rate)."""
    rng = np.random.default_rng(1)
    naive, ours = [], []
    for _ in range(80):
        steps = np.concatenate([[0.0], np.cumsum(1 - rng.exponential(1 / 0.8, size=29_999))])
        latencies = 1 + steps - np.minimum.accumulate(steps)  # Lindley 1952
        naive.append(np.sort(latencies)[statistics.upper_rank(30_000, 0.99, 0.95) - 1])
        ours.append(statistics.upper_bound(latencies, 0.99))
    assert np.mean([bound < 11.36 for bound in naive]) > 0.3  # where 0.05 is promised
    assert np.mean([bound is not None and bound < 11.36 for bound in ours]) <= 0.15


@pytest.mark.parametrize("count", [60, 80, 120, 400])
def test_the_interval_of_a_mean_is_students_over_the_blocks(count):
    samples = np.random.default_rng(count).normal(10.0, 1.0, size=count)
    blocks = min(20, int(statistics.effective_size(samples) / 4))
    means = samples[count % blocks :].reshape(blocks, -1).mean(axis=1)
    half = student.ppf(0.975, blocks - 1) * means.std(ddof=1) / math.sqrt(blocks)
    found = statistics.mean(samples)
    assert found.high - found.value == pytest.approx(half, rel=1e-3)
    assert found.value - found.low == pytest.approx(half, rel=1e-3)


def test_statistics_of_a_measuring_process_need_no_scipy():
    script = (
        "import sys, numpy as np\n"
        "from autotune.measure import latency_columns\n"
        "assert latency_columns(np.arange(1, 999), 1)['latency_p50_ms'].value\n"
        "sys.exit('scipy' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_means_are_covered():
    rng = np.random.default_rng(5)
    for rho in (0.0, 0.55):
        found = [statistics.mean(stream(rng, 400, rho)) for _ in range(RUNS)]
        inside = np.mean([e.low <= math.exp(0.1**2 / 2) <= e.high for e in found])
        assert 0.91 <= inside <= 0.97


def test_the_block_bootstrap_knows_correlation_and_repeats_itself():
    rng = np.random.default_rng(6)
    samples = stream(rng, 1000, 0.8)
    found = statistics.block_bootstrap(samples, np.median, seed=1)
    assert found == statistics.block_bootstrap(samples, np.median, seed=1)
    assert found.low < found.value == np.median(samples) < found.high
    shuffled = statistics.block_bootstrap(rng.permutation(samples), np.median, seed=1)
    assert (found.high - found.low) > 1.5 * (shuffled.high - shuffled.low)


def test_the_block_bootstrap_covers():
    rng = np.random.default_rng(7)
    found = [
        statistics.block_bootstrap(stream(rng, 300, 0.55), np.mean, seed=i, repeats=200)
        for i in range(200)
    ]
    inside = np.mean([e.low <= math.exp(0.1**2 / 2) <= e.high for e in found])
    assert 0.85 <= inside <= 0.98
