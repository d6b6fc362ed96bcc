"""Each flag of the ONNX Runtime backend changes what runs, and never what is computed."""

import numpy as np
import pytest
import torch
from conversion_nets import DATA, ONNX, Attention, Convolutions, exported, made, samples

from autotune.backends import onnxruntime as backend
from autotune.conversion import fuse, onnxruntime_flags

NETS = {"convolutions": Convolutions, "attention": Attention}
GIVEN = {"precision": "fp32", "onnxruntime.level": "all", "ptq.samples": 32, "weights.group": 16}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    found = {}
    for name, net in NETS.items():
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp(name)
        found[name] = (folder, exported(net(), folder))
    return found


def ran(places, net, asked):
    """The operators that run, and the outputs."""
    folder, x = places[net]
    settings = GIVEN | {w if "." in w else f"onnxruntime.{w}": v for w, v in asked.items()}
    settings["precision"] = asked.get("precision", "fp32")
    artifact, _ = made(backend.stages(settings, ONNX, DATA), folder)
    with backend.open(artifact, settings, 48, threads=1) as session:
        return session.facts()["operators"], session.run({"x": x})


CHANGES = [
    ("attention", {"level": "disabled"}, {"level": "basic"}, "Sqrt", ""),
    ("attention", {"level": "basic"}, {"level": "extended"}, "Erf", "Gelu"),
    ("convolutions", {"level": "extended"}, {"level": "all"}, "FusedConv", "ReorderOutput"),
    ("attention", {"constant_folding": False}, {}, "Sqrt", ""),
    ("attention", {"matmul_add_fusion": False}, {}, "BiasGelu", "Gelu"),
    (
        "convolutions",
        {"level": "extended", "conv_fusion": False},
        {"level": "extended"},
        "",
        "FusedConv",
    ),
    ("attention", {"gelu_fusion": False}, {}, "Erf", "Gelu"),
    ("attention", {"layer_norm_fusion": False}, {}, "", "SkipLayerNormalization"),
    ("convolutions", {"nchwc": False}, {}, "FusedConv", "ReorderOutput"),
    ("attention", {}, {"transformer_fusion": True}, "Softmax", "Attention"),
    ("attention", {"level": "disabled"}, {"level": "disabled", "simplify": True}, "Shape", ""),
    (
        "attention",
        {"precision": "int8_dynamic"},
        {"precision": "int8_dynamic", "transformer_fusion": True},
        "Softmax",
        "QAttention",
    ),
    (
        "attention",
        {"precision": "int8"},
        {"precision": "int8", "operators": "products"},
        "QLinearAdd",
        "MatMulIntegerToFloat",
    ),
]
"""Network, one setting, another, an operator that only the first has and one only the second."""


@pytest.mark.parametrize(("net", "one", "other", "gone", "new"), CHANGES)
def test_a_flag_changes_the_operators_and_not_the_function(places, net, one, other, gone, new):
    before, expected = ran(places, net, one)
    after, outputs = ran(places, net, other)
    assert gone or new
    assert not gone or (gone in before and gone not in after)
    assert not new or (new in after and new not in before)
    near = 0.2 if "precision" in one else 1e-5
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=near * np.abs(expected).max())


def test_every_flag_of_the_graph_is_shown_to_change_it():
    shown = {word for _, one, other, _, _ in CHANGES for word in one | other}
    elsewhere = {"spinning", "arithmetic"}  # below; how a kernel runs, not which
    assert {p.name for p in onnxruntime_flags.parameters()} == shown - {"precision"} | elsewhere


@pytest.mark.parametrize("word", ["conv_fusion", "nchwc", "gelu_fusion", "layer_norm_fusion"])
@pytest.mark.parametrize("net", list(NETS))
def test_where_a_flag_does_not_exist_it_changes_nothing(places, net, word):
    when = next(p.when for p in backend.parameters() if p.name == word)
    all_int8 = {
        "precision": "int8",
        "ptq.keep": 0,
        "onnxruntime.level": "all",
        "onnxruntime.operators": "all",
    }
    assert not when.holds(all_int8)
    assert ran(places, net, all_int8)[0] == ran(places, net, {**all_int8, word: False})[0]


@pytest.mark.parametrize("spinning", [True, False])
def test_idle_threads_spin_or_sleep_as_asked(places, spinning):
    folder, _ = places["attention"]
    asked = GIVEN | {"onnxruntime.spinning": spinning}
    with backend.open(folder / "onnx", asked, 1, threads=2) as session:
        options = session._session.get_session_options()
        told = options.get_session_config_entry("session.intra_op.allow_spinning")
    assert told == ("1" if spinning else "0")


def test_the_arithmetic_of_packed_weights_is_the_one_asked_for(places):
    packed = {"precision": "int8_weights"}
    operators, exact = ran(places, "attention", packed)
    same, rounded = ran(places, "attention", packed | {"arithmetic": "int8"})
    _, full = ran(places, "attention", {})
    assert operators == same
    errors = [np.linalg.norm(outputs - full) for outputs in (exact, rounded)]
    assert 0 < errors[0] < errors[1] < 0.1 * np.linalg.norm(full)


def test_a_fused_attention_masks_what_was_masked_wherever_it_is(places):
    folder, _ = places["attention"]
    artifact, facts = made(fuse.stage(ONNX), folder)
    assert facts["fused"]["Attention"] == 1
    x = samples(Attention(), 32, seed=7)
    x[:, 2] = 8  # padding in the middle
    with (
        backend.open(folder / "onnx", GIVEN, 32, threads=1) as plain,
        backend.open(artifact, GIVEN, 32, threads=1) as fused,
    ):
        np.testing.assert_allclose(fused.run({"x": x}), plain.run({"x": x}), rtol=0, atol=1e-5)


def test_where_there_is_nothing_to_fuse_the_facts_say_so(places):
    _, facts = made(fuse.stage(ONNX), places["convolutions"][0])
    assert facts["fused"] == {}
