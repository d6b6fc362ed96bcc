"""Distillation's losses against their formulas."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autotune.errors import StageError
from autotune.training.losses import distillation, hint, standardised

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


# ---- hints ---------------------------------------------------------------------------------------

X = np.random.default_rng(2).normal(size=(12, 5)).astype(np.float32)
SEEN = np.random.default_rng(3).normal(3.0, 2.0, size=(12, 7)).astype(np.float32)
"""What the teacher's last layer read."""


def student():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def by_hand(rows):
    """Columns with mean 0 and variance 1."""
    return (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-6)


def test_a_hint_is_the_distance_of_the_mapped_representation():
    network, rows = student(), np.array([7, 2, 9, 4])
    with torch.no_grad(), hint(network, SEEN, 0.5) as (both, term):
        assert torch.equal(both(torch.from_numpy(X[rows])), network(torch.from_numpy(X[rows])))
        found = term(rows).item()
        mapped = next(m for m in both.modules() if getattr(m, "out_features", 0) == 7)
        read = network[1](network[0](torch.from_numpy(X[rows]))).numpy()
        made = by_hand(read) @ mapped.weight.numpy().T + mapped.bias.numpy()
    expected = 0.5 * np.mean((made - by_hand(SEEN)[rows]) ** 2)
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_hint_trains_the_map_and_what_is_before_the_last_layer():
    network, rows = student(), np.arange(12)
    with hint(network, SEEN, 1.0) as (both, term):
        both(torch.from_numpy(X))
        term(rows).backward()
    assert len(list(both.parameters())) == len(list(network.parameters())) + 2
    gradients = {name: p.grad for name, p in both.named_parameters()}
    moved = {name for name, g in gradients.items() if g is not None and bool(g.abs().sum() > 0)}
    assert moved == {
        *("network.0.weight", "network.0.bias", "other.weight", "other.bias"),
    }
    assert not network[2]._forward_pre_hooks


def test_a_feature_that_never_changes_is_no_hint_and_no_nan():
    rows = torch.tensor([[1.0, 5.0], [3.0, 5.0]], requires_grad=True)
    found = standardised(rows)
    assert found.detach().numpy() == pytest.approx(np.array([[-1, 0], [1, 0]]), abs=1e-5)
    found.square().sum().backward()
    assert torch.isfinite(rows.grad).all()


class Unused(nn.Module):
    """Its last linear layer is not in its way."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(5, 3)
        self.spare = nn.Linear(3, 3)

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize(
    ("network", "shape", "words"),
    [
        (nn.Sequential(nn.Conv2d(1, 3, 5), nn.Flatten()), (4, 1, 5, 5), "the student has none"),
        (nn.Linear(5, 3), (4, 2, 5), r"reads \(4, 2, 5\) for 4 samples"),
        (Unused(), (4, 5), "was not called for 4 samples"),
    ],
)
def test_a_student_that_has_no_such_layer_is_told(network, shape, words):
    with pytest.raises(StageError, match=words):
        asked(network, shape)


def asked(network, shape):
    """The term of a hint for one batch of zeros."""
    with hint(network, SEEN, 1.0) as (both, term):
        both(torch.zeros(shape))
        return term(np.arange(len(SEEN))[: shape[0]])
