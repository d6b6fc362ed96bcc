"""The samples held back from a training: how many, of which classes, by which seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.training import validation


@pytest.mark.parametrize(
    ("samples", "held"), [(2, 1), (3, 1), (20, 10), (49, 24), (64, 32), (100, 32), (1000, 100)]
)
def test_a_tenth_is_held_back_but_32_where_there_are_enough(samples, held):
    rows, kept = validation.split(samples, None, seed=0)
    assert (len(rows), len(kept)) == (samples - held, held)


@given(st.integers(2, 400), st.integers(1, 7), st.integers(0, 2**32))
def test_every_row_stands_on_one_side_and_classes_give_alike(samples, classes, seed):
    labels = np.random.default_rng(seed).integers(classes, size=samples)
    rows, held = validation.split(samples, labels, seed)
    assert sorted([*rows, *held]) == list(range(samples))
    share = len(held) / samples
    for label in range(classes):
        mine = labels == label
        assert abs(mine[held].sum() - share * mine.sum()) <= 1


def test_the_seed_decides():
    labels = np.arange(200) % 4
    one, again, other = (validation.split(200, labels, seed)[1] for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_labels_that_are_no_classes_are_drawn_from_evenly_enough():
    rows, held = validation.split(500, np.linspace(0, 1, 500), seed=0)
    assert len(held) == 50
    assert set(rows).isdisjoint(held)
