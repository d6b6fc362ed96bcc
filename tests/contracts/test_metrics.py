"""What every metric must do; a new file in autotune/metrics is tested by existing."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune import plugins
from autotune.errors import TaskError

METRICS = plugins.names("metrics")


def answers(seed, samples=30, classes=4):
    """Predictions that are often right, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    predictions = rng.normal(size=(samples, classes)).astype(np.float32)
    predictions[np.arange(samples), labels] += 1
    return predictions, labels


@pytest.fixture(params=METRICS)
def metric(request):
    return plugins.load("metrics", request.param)


def test_it_says_what_it_is(metric):
    assert metric.summary
    assert "\n" not in metric.summary
    assert metric.direction in ("min", "max")
    assert isinstance(metric.needs_labels, bool)
    assert isinstance(metric.fraction, bool)


@pytest.mark.parametrize("name", METRICS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_the_score_is_a_finite_number_that_ignores_the_order_of_samples(name, seed):
    metric = plugins.load("metrics", name)
    predictions, labels = answers(seed)
    found = metric.score(predictions, labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    assert type(found) is float
    assert np.isfinite(found)
    assert metric.score(predictions[order], labels[order]) == pytest.approx(found)
    assert not metric.fraction or 0 <= found <= 1


@pytest.mark.parametrize("name", METRICS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_the_shares_of_the_samples_average_to_the_score(name, seed):
    metric = plugins.load("metrics", name)
    predictions, labels = answers(seed)
    shares = metric.per_sample(predictions, labels)
    if shares is not None:
        assert shares.shape == labels.shape
        assert shares.mean() == pytest.approx(metric.score(predictions, labels))


def test_better_answers_score_better(metric):
    predictions, labels = answers(0)
    right = np.eye(4)[labels]
    good, poor = metric.score(right, labels), metric.score(-right, labels)
    middle = metric.score(predictions, labels)
    assert (poor < middle < good) if metric.direction == "max" else (poor > middle > good)


def test_the_inputs_stay_as_they_are(metric):
    predictions, labels = answers(1)
    before = predictions.copy(), labels.copy()
    metric.score(predictions, labels)
    assert (predictions == before[0]).all()
    assert (labels == before[1]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_predictions_that_are_not_finite_are_refused(metric, bad):
    predictions, labels = answers(2)
    predictions[3, 1] = bad
    with pytest.raises(TaskError, match="finite"):
        metric.score(predictions, labels)


def test_labels_of_another_length_are_refused(metric):
    predictions, labels = answers(3)
    if metric.needs_labels:
        with pytest.raises(TaskError, match=r"shape \(30,\)"):
            metric.score(predictions, labels[:-1])


def test_missing_labels_are_refused_where_they_are_needed(metric):
    if metric.needs_labels:
        with pytest.raises(TaskError, match="needs labels"):
            metric.score(answers(4)[0], None)


def test_reading_what_metrics_and_samplers_are_imports_nothing_heavy():
    """One process for both kinds: their metadata fills the help of the command line."""
    heavy = {"torch", "optuna", "sklearn", "ray", "scipy", "pandas", "onnx"}
    code = (
        "import sys; from autotune import plugins\n"
        "for kind in ('metrics', 'samplers'):\n"
        "    assert all(plugins.load(kind, n).summary for n in plugins.names(kind))\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
