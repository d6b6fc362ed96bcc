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
from autotune.training import loop, losses, pace

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

    with pytest.raises(StageError, match=r"diverged: the loss is (nan|inf|-inf) in epoch 3 of 4"):
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


# ---- patience: ending where held-back samples say so ---------------------------------------------

PATIENT = loop.Recipe(epochs=12, lr=0.05, batch=16, patience=2)


def overfits(folder, **changes):
    """Labels without a pattern: the held-back samples' loss rises soon."""
    where = context(folder)
    return dataclasses.replace(
        where, train_y=np.random.default_rng(1).integers(3, size=49), **changes
    )


def epochs(lines):
    return [int(line.split()[1]) for line in lines]


def test_patience_ends_a_training_that_no_longer_learns_at_its_best_epoch(tmp_path):
    lines, states, told = [], [], network()

    def note(line):
        lines.append(line)
        states.append(copy.deepcopy(told.state_dict()))

    loop.train(told, overfits(tmp_path, report=note), losses.distillation(4.0, 0.3), PATIENT)
    held = [float(line.split(" on held-back")[0].split()[-1]) for line in lines]
    best = held.index(min(held))
    assert len(lines) == best + 1 + 2 < 12
    assert all(torch.equal(states[best][k], v) for k, v in told.state_dict().items())
    assert not told.training
    assert list(tmp_path.iterdir()) == []


def test_what_is_held_back_is_of_the_training_data_and_never_learned_from(tmp_path):
    where = context(tmp_path)
    rows, held = loop._rows(where, PATIENT)
    assert sorted([*rows, *held]) == list(range(49))
    seen = []

    def note(logits, labels, teacher):
        seen.append((torch.is_grad_enabled(), {tuple(row.tolist()) for row in teacher}))
        return losses.distillation(4.0, 0.3)(logits, labels, None)

    numbered = np.arange(49, dtype=np.float32)[:, None]
    loop.train(network(), dataclasses.replace(where, teacher_logits=numbered), note, PATIENT)
    learned = {row for grad, samples in seen if grad for row in samples}
    judged = {row for grad, samples in seen if not grad for row in samples}
    assert judged == {(float(row),) for row in held}
    assert learned <= {(float(row),) for row in rows}


@pytest.mark.parametrize("batches", [3, 4, 9, 11])
def test_a_patient_training_that_broke_off_ends_as_it_would_have(tmp_path, batches):
    """Best weights and the epochs since are put back: it ends after the same epoch, the same."""
    whole, lines = network(), []
    teach = losses.distillation(4.0, 0.3)
    loop.train(whole, overfits(tmp_path, report=lines.append), teach, PATIENT)
    left = batches

    def breaking(*values):
        nonlocal left
        left -= torch.is_grad_enabled()
        if left < 0:
            raise KeyboardInterrupt
        return teach(*values)

    where, again = overfits(tmp_path), []
    with pytest.raises(KeyboardInterrupt):
        loop.train(network(), where, breaking, PATIENT)
    found = network()
    loop.train(found, dataclasses.replace(where, report=again.append), teach, PATIENT)
    assert same(found, whole)
    assert epochs(again)[-1] == epochs(lines)[-1]
    assert epochs(again)[0] == batches // 2 + 1  # two batches of 25 rows an epoch


def test_a_patient_training_that_was_killed_at_its_end_trains_no_further(tmp_path):
    whole, lines = network(), []
    teach = losses.distillation(4.0, 0.3)
    loop.train(whole, overfits(tmp_path, report=lines.append), teach, PATIENT)

    def breaking(line):
        if line.startswith(lines[-1].split(",")[0]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(network(), overfits(tmp_path, report=breaking), teach, PATIENT)
    found = network()
    loop.train(found, overfits(tmp_path, report=pytest.fail), teach, PATIENT)
    assert same(found, whole)


def test_one_sample_cannot_be_split(tmp_path):
    where = context(tmp_path)
    one = {"input": where.train_x["input"][:1]}
    with pytest.raises(StageError, match="there is only one"):
        loop.train(
            network(),
            dataclasses.replace(where, train_x=one, train_y=None),
            losses.distillation(4.0, 0.3),
            PATIENT,
        )


# ---- what a technique may hand in besides --------------------------------------------------------


class Hinted(nn.Module):
    """A network whose hidden features are to match given ones, through a layer that learns too."""

    def __init__(self):
        super().__init__()
        self.body = network()
        self.projection = nn.Linear(16, 2)
        self.body[-1].register_forward_pre_hook(self._note)

    def _note(self, _, inputs):
        self.features = inputs[0]

    def forward(self, x):
        return self.body(x)

    def train(self, mode=True):
        super().train(mode)
        self.body[1].eval()  # its running statistics are to stay
        return self


def hinted(where, weight, epochs=40):
    wanted = torch.from_numpy(np.random.default_rng(5).normal(size=(49, 2)).astype(np.float32))
    found = Hinted()

    def extra(rows):
        return weight * nn.functional.mse_loss(found.projection(found.features), wanted[rows])

    recipe = dataclasses.replace(RECIPE, epochs=epochs, extra=extra)
    loop.train(found, where, losses.distillation(4.0, 0.3), recipe)
    with torch.no_grad():
        found(torch.from_numpy(where.train_x["input"]))
        return found, nn.functional.mse_loss(found.projection(found.features), wanted).item()


def test_a_term_of_the_loss_may_come_from_features(tmp_path):
    """It sees the rows of each batch, and what it trains besides is trained."""
    _, ignored = hinted(context(tmp_path), 0.0)
    found, taught = hinted(context(tmp_path), 1.0)
    assert taught < 0.5 * ignored
    assert torch.equal(found.body[1].running_mean, torch.zeros(16))


def test_held_back_samples_are_judged_by_that_term_too(tmp_path):
    seen = []

    def extra(rows):
        seen.append((torch.is_grad_enabled(), rows))
        return torch.zeros(())

    where = context(tmp_path)
    recipe = dataclasses.replace(RECIPE, epochs=1, patience=1, extra=extra)
    loop.train(network(), where, losses.distillation(4.0, 0.3), recipe)
    rows, held = loop._rows(where, recipe)
    assert sorted(np.concatenate([r for grad, r in seen if not grad])) == list(held)
    assert sorted(np.concatenate([r for grad, r in seen if grad])) == list(rows)


# ---- checkpoints, and what is told ---------------------------------------------------------------


def test_a_checkpoint_that_was_torn_is_as_if_it_were_not_there(tmp_path):
    whole = trained(context(tmp_path))
    where = context(tmp_path)
    for torn in (b"", b"PK\3\4 half of a file"):
        where.checkpoint.write_bytes(torn)
        assert same(trained(where), whole)


def test_each_epoch_is_told_with_the_time_left(tmp_path):
    lines = []
    trained(context(tmp_path, report=lines.append))
    assert epochs(lines) == [1, 2, 3, 4]
    assert lines[0].startswith("epoch 1 of 4, loss ")
    assert lines[0].endswith(" s left")
    assert "left" not in lines[-1]


def test_a_long_epoch_is_told_on_its_way(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "EVERY_S", 0.0)
    lines = []
    trained(context(tmp_path, report=lines.append))
    assert epochs(lines) == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]


def test_weights_that_the_last_step_broke_are_found(tmp_path):
    """The loss before it was a number; what it left is not."""
    steps = 4 * 3

    def loss(logits, labels, teacher):
        nonlocal steps
        steps -= 1
        if steps:
            return logits.sum()
        return (logits - logits.detach()).abs().sum().sqrt()  # 0, and its slope infinite

    with pytest.raises(StageError, match=r"diverged: 0\.weight is not finite in epoch 4 of 4"):
        trained(context(tmp_path), loss)
