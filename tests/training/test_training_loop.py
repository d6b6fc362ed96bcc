"""The training loop: what it does again after a kill, and what it refuses."""

import copy
import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from autotune.contracts import TechniqueContext
from autotune.errors import StageError
from autotune.task import Blueprint
from autotune.training import loop, losses

RECIPE = loop.Recipe(epochs=4, lr=0.01, batch=16)


@pytest.fixture(autouse=True)
def one_thread():
    """As a stage trains: sums over two threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network():
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 3)
    )


def context(folder, **changes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(49, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)
    plain = TechniqueContext(
        build=network,
        blueprint=Blueprint(),
        train_x={"input": x},
        train_y=y,
        teacher_logits=None,
        teacher_features=None,
        seed=3,
        checkpoint=folder / "training.pt",
    )
    return dataclasses.replace(plain, **changes)


def trained(where, loss=None):
    found = network()
    loop.train(found, where, loss or losses.distillation(4.0, 0.3), RECIPE)
    return found


def same(one, two):
    a, b = one.state_dict(), two.state_dict()
    return all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns_and_is_left_ready_to_run(tmp_path):
    where = context(tmp_path)
    found = network()
    loop.train(found, where, losses.distillation(4.0, 0.3), loop.Recipe(40, 0.01, 16))
    with torch.no_grad():
        right = found(torch.from_numpy(where.train_x["input"])).argmax(1).numpy() == where.train_y
    assert right.mean() > 0.9
    assert not found.training
    assert not where.checkpoint.exists()


def test_the_seed_decides_and_nothing_else(tmp_path):
    first = trained(context(tmp_path))
    torch.manual_seed(99)
    assert same(first, trained(context(tmp_path)))
    assert not same(first, trained(context(tmp_path, seed=4)))


@pytest.mark.parametrize("batches", [1, 3, 7, 11])
def test_a_training_that_broke_off_ends_with_the_weights_it_would_have_had(tmp_path, batches):
    """Dropout draws from the generator: also its draws must be the same again."""
    whole = trained(context(tmp_path))
    teach = losses.distillation(4.0, 0.3)
    left = batches

    def breaking(logits, labels, teacher):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return teach(logits, labels, teacher)

    where = context(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trained(where, breaking)
    assert where.checkpoint.exists() == (batches >= 3)
    assert same(trained(where), whole)


CHILD = """
import sys, time; sys.path[:0] = [sys.argv[1]]
from pathlib import Path
import test_training_loop as t
t.torch.set_num_threads(1)
teach = t.losses.distillation(4.0, 0.3)
def slow(*values):
    time.sleep(0.05)
    return teach(*values)
t.trained(t.context(Path(sys.argv[2])), slow)
"""


def test_a_training_that_was_killed_goes_on_from_its_checkpoint(tmp_path):
    whole = trained(context(tmp_path))
    where = context(tmp_path)
    code = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(tmp_path)]
    process = subprocess.Popen(code)
    deadline = time.monotonic() + 60
    while not where.checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert where.checkpoint.exists()
    seen = []

    def counted(*values):
        seen.append(1)
        return losses.distillation(4.0, 0.3)(*values)

    assert same(trained(where, counted), whole)
    assert len(seen) < 4 * 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_it_and_names_the_epoch(tmp_path, value):
    calls = []

    def loss(logits, labels, teacher):
        calls.append(1)
        return logits.sum() * (value if len(calls) > 8 else 1.0)

    with pytest.raises(StageError, match=r"diverged: the loss is (nan|inf|-inf) in epoch 2"):
        trained(context(tmp_path), loss)


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.int64])
def test_labels_of_any_integer_kind_teach_the_same(tmp_path, kind):
    where = context(tmp_path)
    told = dataclasses.replace(where, train_y=where.train_y.astype(kind))
    assert same(trained(told), trained(where))


def test_without_labels_the_teacher_alone_teaches(tmp_path):
    logits = np.random.default_rng(0).normal(size=(49, 3)).astype(np.float32)
    alone = context(tmp_path, train_y=None, teacher_logits=logits)
    start = network()
    before = copy.deepcopy(start.state_dict())
    loop.train(start, alone, losses.distillation(4.0, 0.3), RECIPE)
    assert not torch.equal(before["0.weight"], start.state_dict()["0.weight"])


def test_a_network_with_several_outputs_learns_from_the_one_that_counts(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x):
            return {"features": x, "logits": self.body(x)}

    found = Two()
    before = found.body[-1].weight.detach().clone()
    where = context(tmp_path, output="logits")
    loop.train(found, where, losses.distillation(4.0, 0.3), RECIPE)
    assert not torch.equal(before, found.body[-1].weight)
