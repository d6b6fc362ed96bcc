"""A conversion that changes the function is found; one that rounds is not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.contracts import PRECISIONS
from autotune.errors import StageError
from autotune.measure.check import EXACT_DB, compare, tolerance, verify


def logits(samples: int = 32, classes: int = 10, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(samples, classes))
    found[np.arange(samples), rng.integers(0, classes, samples)] += 5
    return found.astype(np.float32)


def rounded(values: np.ndarray, levels: int) -> np.ndarray:
    """What a quantizer with so many levels leaves of the values."""
    step = np.abs(values).max() * 2 / levels
    return np.round(values / step) * step


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_has_a_tolerance_and_equal_outputs_pass(precision):
    assert 0 < tolerance(precision).cosine <= 1
    figures = verify(logits(), logits(), precision)
    assert figures["cosine"] == pytest.approx(1.0)
    assert figures["max_abs_error"] == 0.0
    assert figures["snr_db"] == EXACT_DB
    assert figures["top1_agreement"] == figures["top1_kappa"] == 1.0


@pytest.mark.parametrize(
    ("precision", "levels", "passes"),
    [
        ("fp32", 2**20, True),
        ("fp32", 2**4, False),
        ("bf16", 2**8, True),
        ("bf16", 4, False),
        ("int8", 2**6, True),
        ("int8", 2, False),
    ],
)
def test_rounding_passes_where_the_precision_explains_it(precision, levels, passes):
    outputs = rounded(logits(), levels)
    if passes:
        assert verify(logits(), outputs, precision)["top1_agreement"] > 0.9
    else:
        with pytest.raises(StageError, match=f"the {precision} conversion changed the function"):
            verify(logits(), outputs, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("change", [np.negative, np.zeros_like, lambda x: x[::-1], lambda x: 3 * x])
def test_another_function_never_passes(precision, change):
    with pytest.raises(StageError, match="cosine"):
        verify(logits(), change(logits()), precision)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_not_finite_never_passes(precision, value):
    outputs = logits()
    outputs[3, 4] = value
    with pytest.raises(StageError, match="1 of 320 outputs after it are NaN or infinite"):
        verify(logits(), outputs, precision)
    with pytest.raises(StageError, match="before the conversion"):
        verify(outputs, logits(), precision)


def test_another_shape_never_passes():
    with pytest.raises(StageError, match=r"\(32, 9\), not \(32, 10\)"):
        verify(logits(), logits(classes=9), "int8")


def test_an_int8_model_that_collapsed_to_one_class_is_found():
    """Large equal logits hide it from the cosine."""
    reference = logits() + 100
    outputs = np.tile(reference.mean(axis=0), (32, 1))
    outputs[:, 0] += 1
    assert compare(reference, outputs)["cosine"] > 0.99
    with pytest.raises(StageError, match="as by chance"):
        verify(reference, outputs, "int8")


def test_one_rare_mistake_is_no_collapse():
    """Seven of eight samples are of one class: chance agrees as well, so nothing is claimed."""
    reference = np.tile([4.0, 0.0], (8, 1))
    reference[0] = [0.9, 1.0]
    outputs = reference.copy()
    outputs[0] = [1.0, 0.9]
    figures = verify(reference, outputs, "int8")
    assert figures["top1_agreement"] == 7 / 8
    assert "top1_kappa" not in figures


def test_a_tie_in_the_reference_is_no_disagreement():
    reference = np.ones((20, 3))
    outputs = reference.copy()
    outputs[:, 1] += 1e-6
    assert verify(reference, outputs, "fp32")["top1_agreement"] == 1.0


@pytest.mark.parametrize("shape", [(1, 10), (8, 1), (8,), (4, 3, 8, 8), (1, 1)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_shape_of_outputs_can_be_compared(shape, precision):
    values = np.random.default_rng(0).normal(size=shape)
    figures = verify(values, values, precision)
    assert ("top1_agreement" in figures) == (shape == (1, 10))
    with pytest.raises(StageError):
        verify(values, -values, precision)


def test_outputs_of_zeros():
    zeros = np.zeros((4, 3))
    assert verify(zeros, zeros, "fp32")["cosine"] == 1.0
    with pytest.raises(StageError):
        verify(zeros, zeros + 1, "fp32")


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int64])
def test_every_kind_of_number_can_be_compared(kind):
    values = (logits() * 100).astype(kind)
    assert verify(values, values, "int8")["cosine"] == pytest.approx(1.0)


@given(
    scale=st.floats(1e-150, 1e150),
    seed=st.integers(0, 1000),
    noise=st.floats(0, 2),
)
def test_the_figures_are_finite_and_do_not_hang_on_the_scale(scale, seed, noise):
    reference = logits(seed=seed).astype(np.float64)
    outputs = reference + noise * np.random.default_rng(seed).normal(size=reference.shape)
    one, two = compare(reference, outputs), compare(reference * scale, outputs * scale)
    assert all(math.isfinite(value) for value in two.values())
    for name in ("cosine", "cosine_worst", "scale", "snr_db", "top1_agreement"):
        assert two[name] == pytest.approx(one[name], rel=1e-6, abs=1e-6)
    assert -1 <= one["cosine_worst"] <= 1


def test_the_figures_of_a_known_case():
    figures = compare(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]))
    assert figures["max_abs_error"] == 1.0
    assert figures["cosine"] == pytest.approx(25 / 26)
    assert figures["cosine_worst"] == pytest.approx(0.0)
    assert figures["scale"] == pytest.approx(1.0)
    assert figures["snr_db"] == pytest.approx(10 * math.log10(26 / 2))
    assert figures["top1_agreement"] == 0.5
