"""The laws of dominance and hypervolume."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autotune.front import hypervolume, non_dominated


@st.composite
def problems(draw):
    """Rows of small whole numbers, so that ties and equal rows are frequent."""
    shape = (draw(st.integers(0, 12)), draw(st.integers(1, 4)))
    values = draw(hnp.arrays(np.float64, shape, elements=st.integers(-3, 3).map(float)))
    return values, draw(st.lists(st.booleans(), min_size=shape[1], max_size=shape[1]))


def dominates(a, b, maximise):
    gain = np.where(maximise, a - b, b - a)
    return bool((gain >= 0).all() and (gain > 0).any())


@given(problems())
def test_the_mask_is_the_definition(problem):
    values, maximise = problem
    expected = [not any(dominates(b, a, maximise) for b in values) for a in values]
    assert non_dominated(values, maximise).tolist() == expected


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(problem, rng):
    values, maximise = problem
    order = list(range(len(values)))
    rng.shuffle(order)
    mask = non_dominated(values, maximise)
    assert non_dominated(values[order], maximise).tolist() == mask[order].tolist()


def test_equal_rows_stay_together():
    values = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 3.0]])
    assert non_dominated(values, [False, False]).tolist() == [True, True, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    values = np.array([[1.0, bad]])
    with pytest.raises(ValueError, match="finite"):
        non_dominated(values, [False, False])
    with pytest.raises(ValueError, match="finite"):
        hypervolume(values, [False, False], np.array([5.0, 5.0]))
    with pytest.raises(ValueError, match="finite"):
        hypervolume(np.array([[1.0, 1.0]]), [False, False], np.array([5.0, bad]))


@pytest.mark.parametrize(
    ("values", "maximise", "reference", "volume"),
    [
        ([[1, 1]], [False, False], [3, 4], 6),
        ([[1, 2], [2, 1]], [False, False], [3, 3], 3),
        ([[1, 1], [2, 2]], [False, False], [3, 3], 4),
        ([[0.9, 1]], [True, False], [0.5, 3], 0.8),
        ([[4, 0]], [False, False], [3, 3], 0),
        ([[1, 1, 1]], [False, False, False], [2, 3, 4], 6),
    ],
)
def test_hypervolumes_known_by_hand(values, maximise, reference, volume):
    found = hypervolume(np.array(values, dtype=float), maximise, np.array(reference, dtype=float))
    assert found == pytest.approx(volume)


def test_nothing_has_no_volume():
    assert hypervolume(np.zeros((0, 2)), [False, False], np.array([1.0, 1.0])) == 0.0


@given(problems())
def test_the_volume_counts_the_cells_that_are_dominated(problem):
    values, maximise = problem
    losses = np.where(maximise, -values, values)
    edge = 4
    axis = np.arange(-3, edge)
    cells = np.stack(np.meshgrid(*[axis] * values.shape[1], indexing="ij"), -1)
    cells = cells.reshape(-1, values.shape[1])
    covered = sum(any((row <= cell).all() for row in losses) for cell in cells)
    reference = np.where(maximise, -float(edge), float(edge))
    assert hypervolume(values, maximise, reference) == pytest.approx(covered)
