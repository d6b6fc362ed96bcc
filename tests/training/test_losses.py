"""Distillation's loss against its formula."""

import math

import pytest
import torch
import torch.nn.functional as nnf
from hypothesis import given
from hypothesis import strategies as st

from autotune.training.losses import distillation

STUDENT = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
TEACHER = torch.tensor([[2.0, 0.0, -1.0], [1.0, 1.0, 4.0]])
LABELS = torch.tensor([0, 2])


def divergence(temperature):
    """KL(teacher || student) by hand, mean over the samples."""
    total = 0.0
    for student, teacher in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True):
        p = [math.exp(t / temperature) for t in teacher]
        q = [math.exp(s / temperature) for s in student]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / 2


def entropy():
    total = 0.0
    for logits, label in zip(STUDENT.tolist(), LABELS.tolist(), strict=True):
        total -= logits[label] - math.log(sum(math.exp(v) for v in logits))
    return total / 2


@given(st.floats(0.5, 20), st.floats(0, 1))
def test_it_is_the_weighted_sum_of_the_paper(temperature, alpha):
    found = distillation(temperature, alpha)(STUDENT, LABELS, TEACHER).item()
    expected = alpha * entropy() + (1 - alpha) * temperature**2 * divergence(temperature)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_part_that_is_not_there_gives_its_weight_to_the_other():
    loss = distillation(4.0, 0.3)
    assert loss(STUDENT, LABELS, None).item() == pytest.approx(entropy(), rel=1e-5)
    assert loss(STUDENT, None, TEACHER).item() == pytest.approx(16 * divergence(4.0), rel=1e-4)
    assert loss(STUDENT, LABELS, None) == nnf.cross_entropy(STUDENT, LABELS)


def test_a_student_that_says_what_the_teacher_says_has_nothing_to_learn():
    assert distillation(4.0, 0.0)(TEACHER, LABELS, TEACHER).item() == pytest.approx(0, abs=1e-6)
