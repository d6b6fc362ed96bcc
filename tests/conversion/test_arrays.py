"""The data artifact: what was written is read, without the user's code."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.conversion import arrays

X = {"image": np.arange(24, dtype=np.float32).reshape(6, 4), "text": np.arange(6)[:, None]}
Y = np.arange(6)


@pytest.fixture
def folder(tmp_path):
    test = ({k: v + 100 for k, v in X.items()}, None)
    assert arrays.write(tmp_path, {"train": (X, Y), "test": test}) == {"train": 6, "test": 6}
    return tmp_path


def test_what_was_written_is_read_in_its_order_and_kind(folder):
    found = arrays.read(folder, "train")
    assert list(found) == ["image", "text"]
    for name, array in X.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    assert np.array_equal(arrays.labels(folder, "train"), Y)
    assert np.array_equal(arrays.read(folder, "test", limit=2)["text"], [[100], [101]])


def test_what_was_not_given_is_not_there(folder):
    assert arrays.read(folder, "calibration") == {}
    assert arrays.labels(folder, "calibration") is None
    assert arrays.labels(folder, "test") is None


def test_what_is_read_may_be_written_to(folder):
    found = arrays.read(folder, "train")["image"]
    found[:] = 0
    assert np.array_equal(arrays.read(folder, "train")["image"], X["image"])


@given(st.integers(0, 50), st.integers(1, 20))
def test_rows_begin_anew_at_the_end(start, count):
    found = arrays.rows(X, start, count)
    assert found["text"].ravel().tolist() == [(start + i) % 6 for i in range(count)]
    assert found["image"].flags.c_contiguous
    assert found["image"].base is None or not np.shares_memory(found["image"], X["image"])
