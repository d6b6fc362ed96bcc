"""The user's own training: what it gets, what it may return, and what is said where it fails."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from autotune.contracts import TechniqueContext
from autotune.errors import TaskError
from autotune.task import Blueprint, CodeRef
from autotune.training import loop, losses, usercode

HEAD = """import torch
from torch import nn

def train(network, lesson):
"""
SGD = """
    x, y = torch.from_numpy(lesson.x["input"]), torch.from_numpy(lesson.y)
    optimizer = torch.optim.SGD(network.parameters(), lesson.lr)
    network.train()
    for epoch in range(lesson.epochs):
        for rows in torch.randperm(len(x)).split(16):
            loss = lesson.loss(network(x[rows]), y[rows], None)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        lesson.report(f"epoch {epoch + 1} of {lesson.epochs}")
"""
RECIPE = loop.Recipe(epochs=40, lr=0.5)


def network():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def context(folder, body=SGD, **changes):
    """A context whose own training has this body."""
    task = folder / "task.py"
    task.write_text(HEAD + body)
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    plain = TechniqueContext(
        build=lambda _: network(),
        blueprint=Blueprint(),
        train_x={"input": x},
        train_y=(x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0),
        teacher_logits=None,
        teacher_features=None,
        seed=3,
        checkpoint=folder / "training.pt",
        train=usercode.load(CodeRef(str(task), "train")),
    )
    return dataclasses.replace(plain, **changes)


def trained(where, recipe=RECIPE, start=None):
    found = start or network()
    loop.train(found, where, losses.distillation(4.0, 0.3), recipe)
    return found


def accuracy(found, where):
    with torch.no_grad():
        right = found(torch.from_numpy(where.train_x["input"])).argmax(1).numpy() == where.train_y
    return right.mean()


def test_it_trains_in_the_place_of_the_loop_and_tells_how_far_it_is(tmp_path):
    lines = []
    where = context(tmp_path, report=lines.append)
    found = trained(where)
    assert accuracy(found, where) > 0.9 > accuracy(network(), where)
    assert lines[0] == "epoch 1 of 40"
    assert len(lines) == 40
    assert not found.training


def test_its_random_numbers_are_seeded(tmp_path):
    where = context(tmp_path)
    one = trained(where)
    torch.manual_seed(99)
    assert torch.equal(one[0].weight, trained(where)[0].weight)
    other = trained(dataclasses.replace(where, seed=4))
    assert not torch.equal(one[0].weight, other[0].weight)


def test_the_network_it_returns_is_the_one_that_counts(tmp_path):
    body = """
    import copy
    other = copy.deepcopy(network)
    nn.init.constant_(other[3].bias, 5.0)
    return other
"""
    assert torch.equal(trained(context(tmp_path, body))[3].bias, torch.full((3,), 5.0))


def test_zeros_stay_zeros(tmp_path):
    start = network()
    with torch.no_grad():
        start[0].weight[:, :3] = 0
    found = trained(context(tmp_path), dataclasses.replace(RECIPE, keep_zeros=True), start)
    assert torch.equal(found[0].weight[:, :3], torch.zeros(16, 3))
    assert bool((found[0].weight[:, 3:] != 0).all())


def test_what_it_minimises_is_computed_with_the_zeros(tmp_path):
    body = """
    def note(network, inputs, output):
        lesson.report(str(int((network[0].weight[:, :3] != 0).sum())))

    network.register_forward_hook(note)
    x, y = torch.from_numpy(lesson.x["input"]), torch.from_numpy(lesson.y)
    optimizer = torch.optim.SGD(network.parameters(), lesson.lr)
    for epoch in range(lesson.epochs):
        optimizer.zero_grad()
        (lesson.loss(network(x), y, None) + lesson.loss(network(-x), y, None)).backward()
        optimizer.step()
"""
    start, told = network(), []
    with torch.no_grad():
        start[0].weight[:, :3] = 0
    recipe = dataclasses.replace(RECIPE, epochs=3, keep_zeros=True)
    trained(context(tmp_path, body, report=told.append), recipe, start)
    assert told == ["0"] * 6


def test_its_checkpoint_is_gone_when_it_has_ended(tmp_path):
    where = context(tmp_path, "    torch.save({}, lesson.checkpoint)\n")
    trained(where)
    assert not where.checkpoint.exists()


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        ("    pass\n    raise KeyError('x')\n", 6, "raised KeyError: 'x'"),
        ("    network(torch.zeros(2, 5))\n", 5, "raised RuntimeError: mat1 and mat2"),
        ("    raise SystemExit(3)\n", 5, "raised SystemExit: 3"),
        ("    return 0.3\n", 4, "returned float"),
        (
            "    return nn.Linear(6, 3)\n",
            4,
            "another network: 0.weight was (16, 6) float32, is not",
        ),
        (
            "    network[3] = nn.Linear(16, 4)\n",
            4,
            "changed the network: 3.weight was (3, 16) float32, is (4, 16) float32",
        ),
        ("    network.double()\n", 4, "0.weight was (16, 6) float32, is (16, 6) float64"),
        (
            "    nn.init.constant_(network[3].bias, float('nan'))\n",
            4,
            "NaN or infinite values in 3",
        ),
        ("    network[1].running_var.fill_(float('nan'))\n", 4, "infinite values in 1.running_var"),
    ],
)
def test_what_it_does_wrong_is_said_with_its_line(tmp_path, body, line, words):
    with pytest.raises(TaskError) as caught:
        trained(context(tmp_path, body))
    assert caught.value.place == f"{tmp_path / 'task.py'}:{line}"
    assert caught.value.cause.startswith("the training train() ")
    assert words in caught.value.cause


def test_one_of_other_arguments_is_told_which_it_gets(tmp_path):
    (tmp_path / "mine.py").write_text("\n\ndef fit(network):\n    pass\n")
    fit = usercode.load(CodeRef(str(tmp_path / "mine.py"), "fit"))
    with pytest.raises(TaskError, match=r"fit\(\) cannot be called: too many positional") as caught:
        trained(context(tmp_path, train=fit))
    assert caught.value.place == f"{tmp_path / 'mine.py'}:3"
    assert caught.value.remedy == "define it as train(network, lesson)"


def test_an_object_that_is_called_may_train_and_has_its_line(tmp_path):
    class Trainer:
        def __call__(self, network, lesson):
            raise ValueError("no")

    with pytest.raises(TaskError, match=r"Trainer\(\) raised ValueError: no") as caught:
        trained(context(tmp_path, train=Trainer()))
    assert Path(caught.value.place.rsplit(":", 1)[0]) == Path(__file__)


def test_the_example_of_the_documentation_trains(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "techniques.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    (tmp_path / "own.py").write_text(example)
    own = usercode.load(CodeRef(str(tmp_path / "own.py"), "train"))
    lines = []
    where = context(tmp_path, train=own, report=lines.append)
    teacher = np.eye(3, dtype=np.float32)[where.train_y]
    for labels, outputs in ((where.train_y, None), (where.train_y, teacher), (None, teacher)):
        before, after = network(), network()
        told = dataclasses.replace(where, train_y=labels, teacher_logits=outputs)
        loss = losses.distillation(4.0, 0.3)
        loop.train(after, told, loss, loop.Recipe(epochs=4, lr=0.1))
        assert not torch.equal(before[0].weight, after[0].weight)
    assert len(lines) == 12
    assert lines[-1].startswith("epoch 4 of 4, loss ")
