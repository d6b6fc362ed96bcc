"""Pruning in rounds: what is due when, and that a kill changes nothing."""

import copy

import pytest
import torch
from prune_nets import context, model, reader, residual, shapes

from autotune.techniques import prune
from autotune.training import gradual

STEPS = {
    "prune.criterion": "taylor",
    "prune.allocation": "uniform",
    "prune.ratio": 0.5,
    "prune.steps": 3,
    "prune.schedule": "cubic",
    "prune.step_epochs": 2,
    "prune.step_lr": 0.01,
}
CASES = {
    "channel": (residual, {"prune.structure": "channel", "prune.round_to": 1}),
    "global": (
        residual,
        {"prune.structure": "channel", "prune.round_to": 1, "prune.allocation": "global"},
    ),
    "head": (reader, {"prune.structure": "head", "prune.heads": "num_heads"}),
    "unstructured": (residual, {"prune.structure": "unstructured"}),
}


class Killed(BaseException):
    """As if the process ended here."""


@pytest.fixture(autouse=True)
def one_thread():
    """As a stage trains: sums over two threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pruned(case, folder, report=lambda _: None, **changes):
    make, settings = CASES[case]
    where = context(folder, model(make.__name__), report=report)
    return prune.apply(make(), STEPS | settings | changes, where)[0]


def test_cubic_takes_most_at_first_and_both_end_at_all_of_it():
    cubic = [gradual.progress(i, 4, "cubic") for i in range(5)]
    assert cubic == pytest.approx([0, 37 / 64, 56 / 64, 63 / 64, 1])
    assert [gradual.progress(i, 4, "linear") for i in range(5)] == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("case", ["channel", "head"])
def test_the_shapes_of_many_rounds_are_those_of_one(case, tmp_path):
    make, settings = CASES[case]
    at_once, _ = prune.structure(make(), STEPS | settings, context(tmp_path))
    assert shapes(pruned(case, tmp_path)) == shapes(at_once) != shapes(make())


@pytest.mark.parametrize("case", CASES)
def test_it_trains_between_the_rounds_and_leaves_no_file(case, tmp_path):
    told = []
    found = pruned(case, tmp_path, told.append)
    rounds = [line.split(":")[0] for line in told]
    assert rounds == ["after round 1 of 3"] * 2 + ["after round 2 of 3"] * 2
    assert list(tmp_path.iterdir()) == []
    assert not found.training
    if case == "unstructured":
        held = torch.cat([p.flatten() for n, p in found.named_parameters() if p.dim() > 1])
        assert float((held == 0).float().mean()) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_kill_in_a_training_changes_nothing_in_the_end(case, at, tmp_path):
    whole = pruned(case, tmp_path)
    told = []

    def killer(line):
        told.append(line)
        if len(told) == at:
            raise Killed

    folder = tmp_path / "killed"
    folder.mkdir()
    with pytest.raises(Killed):
        pruned(case, folder, killer)
    before = len(told)
    resumed = pruned(case, folder, told.append)
    one, two = whole.state_dict(), resumed.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert len(told) == before + 4 - at  # no epoch is trained twice


def test_a_kill_after_the_last_cut_costs_nothing(tmp_path, monkeypatch):
    whole = pruned("channel", tmp_path)
    real = gradual.checkpoint.save

    def dies_after_the_last(path, state):
        real(path, copy.deepcopy(state))
        if len(state.get("cuts", ())) == 3:
            raise Killed

    monkeypatch.setattr(gradual.checkpoint, "save", dies_after_the_last)
    with pytest.raises(Killed):
        pruned("channel", tmp_path)
    monkeypatch.setattr(gradual.checkpoint, "save", real)
    told = []
    resumed = pruned("channel", tmp_path, told.append)
    assert told == []
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in whole.state_dict().items())
