"""Distillation: how a student is made, how it is taught, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from autotune import hardware
from autotune.contracts import TechniqueContext
from autotune.errors import StageError, TaskError
from autotune.target import Target
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.techniques import distill
from autotune.training import network as networks
from autotune.training.losses import standardised

TASK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, width), nn.Tanh(), nn.Linear(width, 8), nn.Tanh())
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.body(x))

def build_model(width=16):
    if width == 13:
        raise RuntimeError("thirteen")
    return nn.Linear(4, 3) if width == 5 else Net(width, 4 if width == 7 else 3)
"""


@pytest.fixture(autouse=True)
def one_thread():
    """As a stage trains: sums over two threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model(tmp_path):
    (tmp_path / "task.py").write_text(TASK)
    return ModelSource(CodeRef(str(tmp_path / "task.py"), "build_model"), {"width": 16})


@pytest.fixture
def context(model, tmp_path):
    """Random samples, and a teacher that says what a random projection of them says."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(96, 10)).astype(np.float32)
    features = np.tanh(x @ rng.normal(size=(10, 6))).astype(np.float32)
    logits = (features @ rng.normal(size=(6, 3))).astype(np.float32)
    return TechniqueContext(
        build=lambda blueprint: networks.build(model, blueprint),
        blueprint=Blueprint(model.args),
        train_x={"input": x},
        train_y=logits.argmax(1),
        teacher_logits=logits,
        teacher_features=features,
        seed=0,
        checkpoint=tmp_path / "training.pt",
    )


def settings(model, **changes):
    """Every knob of distillation at its default, a student of width 8, but for the changes."""
    found = {
        f"{section}.{p.name}": p.default
        for section, parameters in distill.parameters(model).items()
        for p in parameters
    }
    words = {k.replace("__", "."): v for k, v in changes.items()}
    return found | {"student.width": 8, "distill.epochs": 20, "distill.lr": 0.01} | words


def applied(model, context, **changes):
    return distill.apply(networks.given(model), settings(model, **changes), context)[0]


def unexplained(network, context):
    """The share of the teacher's representation that no linear map of the student's gives."""
    with torch.no_grad():
        read = standardised(network.body(torch.from_numpy(context.train_x["input"]))).numpy()
    wanted = standardised(torch.from_numpy(context.teacher_features)).numpy()
    best, *_ = np.linalg.lstsq(read, wanted, rcond=None)
    return float(np.mean((read @ best - wanted) ** 2))


def test_a_hint_pulls_the_students_representation_towards_the_teachers(model, context):
    fresh = unexplained(
        distill.structure(networks.given(model), settings(model), context)[0], context
    )
    without = unexplained(applied(model, context), context)
    hinted = unexplained(applied(model, context, distill__hint=5.0), context)
    assert hinted < 0.7 * without
    assert hinted < 0.7 * fresh


def test_a_hint_leaves_the_student_a_plain_network(model, context):
    plain, hinted = applied(model, context), applied(model, context, distill__hint=1.0)
    assert type(hinted).__name__ == "Net"
    assert hinted.state_dict().keys() == plain.state_dict().keys()
    assert not hinted.training
    assert not any(m._forward_pre_hooks for m in hinted.modules())


def test_a_hint_needs_the_teachers_representation(model, context):
    nothing = dataclasses.replace(context, teacher_features=None)
    with pytest.raises(StageError, match="the given model has none"):
        applied(model, nothing, distill__hint=1.0)
    applied(model, nothing, distill__epochs=1)


def test_a_hint_is_refused_where_the_user_trains(model):
    here = Target("here", 1, 1, None, hardware.machine())
    own = dataclasses.replace(model, train=CodeRef(model.factory.file, "learn"))
    asked = settings(model, distill__hint=1.0)
    assert distill.reject(asked, here, model) is None
    assert distill.reject(settings(model), here, own) is None
    assert "learn()" in distill.reject(asked, here, own).reason


def test_patience_ends_a_training_that_leads_nowhere(model, context):
    lines = []
    told = dataclasses.replace(context, report=lines.append)
    applied(model, told, distill__lr=0.0, distill__epochs=9, distill__patience=2)
    assert [line for line in lines if line.startswith("epoch 3 ")]
    assert not [line for line in lines if line.startswith("epoch 4 ")]


@pytest.mark.parametrize("change", [distill.apply, distill.structure])
@pytest.mark.parametrize(
    ("width", "error", "words"),
    [
        (7, StageError, r"shape \(2, 4\) for 2 samples, the given model's \(2, 3\)"),
        (5, StageError, "the student cannot run the training data: RuntimeError: mat1"),
        (13, TaskError, "raised RuntimeError: thirteen"),
    ],
)
def test_a_student_that_cannot_stand_in_is_told(change, width, error, words, model, context):
    with pytest.raises(error, match=words):
        change(networks.given(model), settings(model, student__width=width), context)
