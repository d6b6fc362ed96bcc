"""What a runtime really computes in, held against what was asked."""

import pytest

from autotune.engine.judge import _really
from autotune.errors import StageError


@pytest.mark.parametrize(
    ("kernels", "kept"),
    [({"int8": 2, "fp32": 1}, 0), ({"int8": 1}, 0), ({"int8": 2, "fp32": 3}, 2)],
)
def test_more_than_half_of_what_is_not_kept_is_as_asked(kernels, kept):
    _really("int8", {"kernels": kernels}, kept)
    with pytest.raises(StageError, match="asked for bf16"):
        _really("bf16", {"kernels": kernels}, kept)


@pytest.mark.parametrize(
    ("kernels", "kept", "ran"),
    [
        ({"int8": 1, "fp32": 1}, 0, "1 int8, 1 fp32"),  # a linear head after an LSTM
        ({"int8": 1, "fp32": 3}, 2, "1 int8, 3 fp32"),
        ({"fp32": 4}, 500, "4 fp32; ptq.keep = 500 leaves"),
        ({}, 0, "none of them at all"),
    ],
)
def test_half_of_them_is_not_enough(kernels, kept, ran):
    with pytest.raises(StageError, match=ran):
        _really("int8", {"kernels": kernels}, kept)
    _really("fp32", {"kernels": kernels}, kept)
