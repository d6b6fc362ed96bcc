"""The technique prune as the search sees it: its knobs, its shapes, what comes of its networks."""

import dataclasses
import random

import pytest
import torch
from prune_nets import context, model, outputs, shapes

from autotune import hardware
from autotune.contracts import Parameter
from autotune.errors import StageError
from autotune.space import AllOf, Choice, Knob, Space
from autotune.target import Target
from autotune.task import ModelSource
from autotune.techniques import finetune, prune
from autotune.training import network as networks
from autotune.training import sparsity

EVERY = {
    "channel": ("residual", "channel", {"round_to": 2}),
    "global": ("residual", "channel", {"round_to": 2, "allocation": "global"}),
    "latency": ("residual", "channel", {"round_to": 2, "allocation": "latency"}),
    "stages": (
        "residual",
        "channel",
        {
            "round_to": 2,
            "allocation": "stages",
            "ratio_early": 0.1,
            "ratio_middle": 0.3,
            "ratio_late": 0.7,
        },
    ),
    "head": ("reader", "head", {}),
    "unstructured": ("residual", "unstructured", {}),
    "2:4": ("reader", "2:4", {}),
}


def settings(structure, **changes):
    """A point with the knobs that exist there, at their defaults or as changed."""
    found = {"prune.structure": structure} | {f"prune.{k}": v for k, v in changes.items()}
    exist = {"prune.structure": structure}
    for parameter in parameters():
        name = f"prune.{parameter.name}"
        if parameter.when.holds(exist):
            exist[name] = found.get(name, parameter.default)
    return exist


def parameters() -> tuple[Parameter, ...]:
    return prune.parameters(ModelSource())["prune"]


def pruned(case, folder):
    factory, structure, changes = EVERY[case]
    of = model(factory)
    where = context(folder, of)
    point = settings(structure, **changes)
    return (*prune.apply(networks.given(of), point, where), of, where, point)


@pytest.mark.parametrize(
    ("structure", "changes", "exist"),
    [
        ("none", {}, set()),
        ("2:4", {}, set()),
        ("unstructured", {}, {"criterion", "ratio", "steps"}),
        ("head", {}, {"criterion", "ratio", "steps", "heads"}),
        ("channel", {}, {"criterion", "ratio", "steps", "allocation", "round_to"}),
        (
            "channel",
            {"allocation": "stages"},
            {"criterion", "steps", "allocation", "round_to"}
            | {"ratio_early", "ratio_middle", "ratio_late"},
        ),
        (
            "unstructured",
            {"steps": 3},
            {"criterion", "ratio", "steps", "schedule", "step_epochs", "step_lr"},
        ),
    ],
)
def test_a_knob_exists_only_where_it_matters(structure, changes, exist):
    found = settings(structure, **changes)
    assert found.keys() == {f"prune.{name}" for name in exist | {"structure"}}


def test_its_knobs_make_a_space_in_their_order():
    knobs = [
        Knob(f"prune.{p.name}", Choice(p.choices or (p.default,)), AllOf((p.when,)))
        for p in parameters()
    ]
    space = Space(tuple(knobs))
    drawn = [space.draw(random.Random(i)) for i in range(40)]
    assert {point["prune.structure"] for point in drawn} == {"none", *prune.STRUCTURES}


@pytest.mark.parametrize(
    ("structure", "changes", "allowed"),
    [
        ("unstructured", {"criterion": "lamp"}, True),
        ("channel", {"criterion": "lamp", "allocation": "global"}, True),
        ("channel", {"criterion": "lamp"}, False),
        ("head", {"criterion": "lamp"}, False),
        ("channel", {"criterion": "taylor"}, True),
        ("2:4", {}, True),
    ],
)
def test_lamp_is_refused_where_it_ranks_as_magnitude(structure, changes, allowed):
    here = Target("here", 1, 1, None, hardware.machine())
    found = prune.reject(settings(structure, **changes), here, ModelSource())
    assert (found is None) == allowed


@pytest.mark.parametrize("case", EVERY)
def test_it_comes_back_from_disk_exactly(case, tmp_path):
    network, blueprint, of, _, _ = pruned(case, tmp_path)
    folder = tmp_path / "saved"
    folder.mkdir()
    networks.save(network, blueprint, of, folder)
    loaded, found, _ = networks.load(folder)
    assert found == blueprint
    assert found.sparse == (case in prune.SPARSE)
    assert torch.equal(outputs(loaded), outputs(network))
    assert not torch.equal(outputs(network), outputs(networks.given(of)))
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("case", EVERY)
def test_its_shapes_are_told_without_it(case, tmp_path):
    network, _, of, where, point = pruned(case, tmp_path)
    told = prune.shapes(point)
    given = shapes(networks.given(of))
    assert (told == ()) == (shapes(network) == given)
    assert (told is None) == (case in ("global", "latency"))
    if told is not None:
        shaped, _ = prune.structure(networks.given(of), point, where)
        assert shapes(shaped) == shapes(network)


def test_structure_needs_neither_labels_nor_teacher_where_shapes_are_fixed(tmp_path):
    of = model("residual")
    bare = context(tmp_path, of, train_y=None, teacher_logits=None)
    point = settings("channel", criterion="taylor", round_to=2)
    shaped, _ = prune.structure(networks.given(of), point, bare)
    assert shapes(shaped) != shapes(networks.given(of))
    with pytest.raises(StageError, match="needs labels"):
        prune.apply(networks.given(of), point, bare)


@pytest.mark.parametrize("case", EVERY)
def test_fine_tuning_exists_after_it_and_keeps_zeros(case, tmp_path):
    network, blueprint, of, where, point = pruned(case, tmp_path)
    where = dataclasses.replace(where, blueprint=blueprint)
    assert finetune.when(of).holds(point)
    zero = {n: w == 0 for n, w in sparsity.layers(network).items()}
    before = outputs(network)
    chosen = {f"finetune.{p.name}": p.default for p in finetune.parameters(of)["finetune"]}
    tuned, _ = finetune.apply(network, chosen | {"finetune.epochs": 1}, where)
    after = {n: w == 0 for n, w in sparsity.layers(tuned).items()}
    assert not torch.equal(outputs(tuned), before)
    assert all(torch.equal(zero[n] & after[n], zero[n]) for n in zero)
    if case in ("unstructured", "2:4"):
        assert any(bool(z.any()) for z in zero.values())


def test_fine_tuning_does_not_exist_where_nothing_was_pruned():
    assert not finetune.when(model()).holds({"prune.structure": "none"})


def test_zeros_that_nobody_pruned_are_trained(tmp_path):
    """A layer that begins at zero learns, also where channels were pruned."""
    network, blueprint, of, where, _ = pruned("channel", tmp_path)
    with torch.no_grad():
        network.head.weight.zero_()
    where = dataclasses.replace(where, blueprint=blueprint)
    chosen = {f"finetune.{p.name}": p.default for p in finetune.parameters(of)["finetune"]}
    tuned, _ = finetune.apply(network, chosen | {"finetune.epochs": 1}, where)
    assert tuned.head.weight.any()


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("unstructured", {"ratio": 0.0}),
        ("head", {"ratio": 0.05}),
        ("channel", {"round_to": 64}),
        ("channel", {"round_to": 64, "steps": 2}),
    ],
)
def test_what_removes_nothing_is_refused(case, changes, tmp_path):
    of = model(EVERY[case][0])
    with pytest.raises(StageError, match="pruning removed nothing"):
        prune.apply(networks.given(of), settings(case, **changes), context(tmp_path, of))


def test_layers_that_do_not_fit_two_of_four_are_listed(tmp_path):
    of, told = model("residual"), []
    prune.apply(networks.given(of), settings("2:4"), context(tmp_path, of, report=told.append))
    assert told == ["2:4 left these as they are, their inputs are no multiple of 4: stem, each"]
