"""The metrics of a classifier: values known by hand, and input they refuse."""

import sys

import numpy as np
import pytest

from autotune.errors import TaskError, UserError
from autotune.metrics import macro_f1, top1

LABELS = np.array([0, 0, 0, 1, 2])
ANSWERS = np.eye(3)[[0, 0, 1, 1, 0]]


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint8])
def test_top1_is_the_share_of_right_answers(kind):
    assert top1.score(ANSWERS, LABELS.astype(kind)) == pytest.approx(3 / 5)
    assert top1.per_sample(ANSWERS, LABELS.astype(kind)).tolist() == [1, 1, 0, 1, 0]


def test_macro_f1_counts_every_class_alike():
    # class 0: 2 right of 3 asked and 3 given; class 1: 1 of 1 and 2; class 2: none of 1
    assert macro_f1.score(ANSWERS, LABELS) == pytest.approx((4 / 6 + 2 / 3 + 0) / 3)
    assert macro_f1.per_sample(ANSWERS, LABELS) is None


@pytest.mark.parametrize("metric", [top1, macro_f1])
@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        (ANSWERS[0], LABELS, r"predictions \(samples, classes\), not \(3,\)"),
        (ANSWERS[None], LABELS, r"not \(1, 5, 3\)"),
        (ANSWERS[:0], LABELS[:0], r"not \(0, 3\)"),
        (ANSWERS, ANSWERS, r"labels of shape \(5,\), not \(5, 3\)"),
        (ANSWERS, LABELS[:, None], r"labels of shape \(5,\), not \(5, 1\)"),
        (ANSWERS, LABELS.astype(float), "integer labels, not float64"),
        (ANSWERS, LABELS + 1, "labels from 0 to 2, not 1 to 3"),
        (ANSWERS, LABELS - 1, "labels from 0 to 2, not -1 to 1"),
    ],
)
def test_what_is_no_classification_is_refused(metric, predictions, labels, message):
    with pytest.raises(TaskError, match=message):
        metric.score(predictions, labels)


def test_macro_f1_names_the_extra_that_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(UserError, match=r"pip install 'autotune\[examples\]'"):
        macro_f1.score(ANSWERS, LABELS)
