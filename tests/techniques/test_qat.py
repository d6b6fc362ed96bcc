"""Quantization-aware training as a technique: where it exists, and what it hands on."""

import shutil

import numpy as np
import pytest
import torch

from autotune.contracts import TechniqueContext
from autotune.errors import StageError
from autotune.spec import load
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.techniques import qat
from autotune.training import network as networks

SETTINGS = {
    "qat.epochs": 2,
    "qat.lr": 3e-3,
    "qat.temperature": 4.0,
    "qat.alpha": 0.3,
    "qat.patience": 0,
}
NETS = """
from torch import nn

class Recurrent(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.rnn = nn.LSTM(8, 3, batch_first=True)
        self.head = nn.Linear(3, 3) if head else nn.Identity()

    def forward(self, x):
        return self.head(self.rnn(x.flatten(1, 2))[0][:, -1])

def build(head=True):
    return Recurrent(head)
"""


@pytest.fixture(autouse=True)
def one_thread():
    """As a stage trains: sums over two threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def context(folder, model, **changes):
    rng = np.random.default_rng(0)
    given = {
        "build": lambda blueprint: networks.build(model, blueprint),
        "blueprint": Blueprint(model.args),
        "train_x": {"input": rng.normal(size=(96, 1, 8, 8)).astype(np.float32)},
        "train_y": rng.integers(3, size=96),
        "teacher_logits": rng.normal(size=(96, 3)).astype(np.float32),
        "teacher_features": None,
        "seed": 0,
        "checkpoint": folder / "training.pt",
    }
    return TechniqueContext(**{**given, **changes})


@pytest.fixture
def recurrent(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)

    def model(head):
        return ModelSource(CodeRef(str(tmp_path / "nets.py"), "build"), {"head": head})

    return model


def test_it_exists_where_int8_and_epochs_are_asked_for(tiny, tmp_path):
    for name in ("task.py", "space.yaml", "teacher.pt"):
        shutil.copy(tiny / name, tmp_path)
    space = {
        "batch": 1,
        "precision": ["fp32", "int8"],
        "qat": {"epochs": [0, 2], "lr": [1e-3, 3e-3]},
        "backend": "onnxruntime",
    }
    found = load(tmp_path / "space.yaml", {"space": space}).space.grid()
    told = {
        tuple((k, v) for k, v in point.settings if k.startswith("qat.")) for point in found.points
    }
    on = sorted((SETTINGS | {"qat.lr": 1e-3}).items())
    faster = [(k, 3e-3 if k == "qat.lr" else v) for k, v in on]
    assert told == {(), (("qat.epochs", 0),), tuple(on), tuple(faster)}
    assert len(found.points) == 4


def test_it_hands_on_the_float_network_trained(tiny_model, tmp_path):
    """The same names and shapes, nothing of the simulation left, exact after saving."""
    given = networks.given(tiny_model)
    before = {k: v.clone() for k, v in given.state_dict().items()}
    found, blueprint = qat.apply(given, SETTINGS, context(tmp_path, tiny_model))
    assert {k: v.shape for k, v in found.state_dict().items()} == {
        k: v.shape for k, v in before.items()
    }
    assert all(not torch.equal(before[n], p) for n, p in found.named_parameters())
    assert not found.training
    assert blueprint == Blueprint(tiny_model.args)
    x = {"input": np.random.default_rng(1).normal(size=(5, 1, 8, 8)).astype(np.float32)}
    (tmp_path / "saved").mkdir()
    networks.save(found, blueprint, tiny_model, tmp_path / "saved")
    loaded = networks.load(tmp_path / "saved")[0]
    assert np.array_equal(networks.predict(loaded, x, 0), networks.predict(found, x, 0))


def test_what_was_pruned_stays_zero(tiny_model, tmp_path):
    network = networks.given(tiny_model)
    with torch.no_grad():
        network.conv2.weight[torch.rand_like(network.conv2.weight) < 0.5] = 0
    zero = network.conv2.weight == 0
    sparse = Blueprint(tiny_model.args, sparse=True)
    where = context(tmp_path, tiny_model, blueprint=sparse)
    found, blueprint = qat.apply(network, SETTINGS, where)
    assert torch.equal(found.conv2.weight == 0, zero)
    assert blueprint == sparse


def test_zeros_that_nobody_pruned_are_trained(tiny_model, tmp_path):
    network = networks.given(tiny_model)
    with torch.no_grad():
        network.head.weight.zero_()
    found, _ = qat.apply(network, SETTINGS, context(tmp_path, tiny_model))
    assert found.head.weight.any()


def test_what_is_not_simulated_is_told(recurrent, tmp_path):
    told = []
    model = recurrent(head=True)
    qat.apply(networks.given(model), SETTINGS, context(tmp_path, model, report=told.append))
    assert told[0] == "not simulated in INT8: lstm, LSTM rnn"
    assert len(told) > 1


def test_a_network_of_which_it_knows_nothing_is_refused(recurrent, tmp_path):
    model = recurrent(head=False)
    with pytest.raises(StageError, match=r"finds no convolution .* its layers: Identity, LSTM"):
        qat.apply(networks.given(model), SETTINGS, context(tmp_path, model))


def test_the_users_own_training_is_given_the_simulation(tiny_model, tmp_path):
    """It may use the network's own parts by name, and what it trains is what is handed on."""

    def train(network, lesson):
        optimizer = torch.optim.SGD(network.head.parameters(), lr=lesson.lr)
        x, y = torch.from_numpy(lesson.x["input"]), torch.from_numpy(lesson.y)
        seen.append(network(x))
        lesson.loss(seen[0], y, None).backward()
        optimizer.step()

    seen = []
    network = networks.given(tiny_model)
    where = context(tmp_path, tiny_model, train=train)
    with torch.no_grad():
        plain = network(torch.from_numpy(where.train_x["input"]))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    found, _ = qat.apply(network, SETTINGS, where)
    assert 15 < (10 * (plain.var() / (plain - seen[0]).var()).log10()) < 60
    changed = {n for n, p in found.named_parameters() if not torch.equal(before[n], p)}
    assert changed == {"head.weight", "head.bias"}


def test_its_structure_is_the_network_as_it_came(tiny_model, tmp_path):
    network = networks.given(tiny_model)
    assert qat.structure(network, {}, context(tmp_path, tiny_model))[0] is network
    assert qat.shapes(SETTINGS) == ()
    assert qat.trains(SETTINGS)
