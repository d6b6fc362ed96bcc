"""Each flag of the PyTorch backend changes what runs, and what it says about it is true."""

import numpy as np
import pytest
import torch
from backend_nets import DATA, NETWORK, Place

from autotune import hardware
from autotune.backends import torch as backend
from autotune.conversion import torch_integers, torch_kernels
from autotune.errors import StageError
from autotune.measure import check
from autotune.target import Machine, Target
from autotune.task import CodeRef, ModelSource

HERE = hardware.machine()
VNNI = HERE.has("avx512_vnni") or HERE.has("avx_vnni")
needs_vnni = pytest.mark.skipif(not VNNI, reason="this CPU has no VNNI")
needs_bf16 = pytest.mark.skipif(
    not hardware.bf16_kernels(HERE), reason="this CPU has no bf16 instructions"
)
needs_compiler = pytest.mark.skipif(backend._compiler() is None, reason="no C++ compiler")
NETS = ("convolutions", "attention", "encoder", "filters", "narrow", "twice")
MODEL = ModelSource(CodeRef("task.py", "build"))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return {net: Place(net, tmp_path_factory.mktemp(net)) for net in NETS}


def settings(precision="fp32", **asked):
    given = {"precision": precision, "ptq.samples": 32, "torch.channels_last": False}
    found = given | {w.replace("__", "."): v for w, v in asked.items()}
    freeze = found.setdefault("torch.freeze", False)
    return found if freeze else {"torch.compile": False, **found}


# ---- what is said to run -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "asked", "kernels"),
    [
        ("convolutions", {}, {"fp32": 4}),
        ("attention", {}, {"fp32": 8}),
        ("convolutions", {"torch__freeze": True}, {"fp32": 4}),
        ("attention", {"torch__freeze": True}, {"fp32": 8}),
    ],
)
def test_every_convolution_and_product_is_counted_once(net, asked, kernels, places):
    _, facts = places[net].ran(backend, settings(**asked))
    assert facts["kernels"] == kernels


@needs_bf16
@pytest.mark.parametrize(
    "asked",
    [{}, {"torch__freeze": True}, pytest.param({"torch__compile": True}, marks=needs_compiler)],
)
def test_bf16_is_told_by_the_kernels_and_not_by_the_wish(asked, places):
    asked = settings("bf16", **asked)
    outputs, facts = places["convolutions"].ran(backend, asked)
    assert facts["kernels"] == {"bf16": 4}
    assert not np.array_equal(outputs, places["convolutions"].expected)
    _, off = places["narrow"].ran(backend, asked)
    assert off["kernels"] == {"fp32": 2}


def test_facts_are_those_of_the_first_request_and_found_once(places, monkeypatch):
    artifact = places["convolutions"].made(NETWORK)
    with backend.open(artifact, settings(), 3, threads=1) as session:
        session.run({"x": places["convolutions"].x["x"][:3]})
        facts = session.facts()
        monkeypatch.setattr(torch_kernels, "watch", None)
        assert session.facts() == facts


# ---- flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True])
def test_every_convolution_gets_the_layout_asked_for(last, places):
    seen = []

    def look(module, inputs):
        if isinstance(module, torch.nn.Conv2d):
            seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
            seen.append(module.weight.is_contiguous(memory_format=torch.channels_last))

    place = places["convolutions"]
    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        outputs, _ = place.ran(backend, settings(torch__channels_last=last))
    finally:
        hook.remove()
    # A 1x1 filter's weights are of both layouts at once.
    assert set(seen[:4]) == {last}
    np.testing.assert_allclose(outputs, place.expected, rtol=1e-4, atol=1e-5)


def test_a_frozen_graph_has_its_norms_folded(places):
    place = places["convolutions"]
    _, eager = place.ran(backend, settings())
    outputs, frozen = place.ran(backend, settings(torch__freeze=True))
    assert (eager["provider"], frozen["provider"]) == ("eager", "frozen")
    assert "aten::batch_norm" in eager["operators"]
    assert "aten::batch_norm" not in frozen["operators"]
    np.testing.assert_allclose(outputs, place.expected, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_a_compiled_graph_has_its_norms_folded_and_its_sums_fused(places):
    place = places["convolutions"]
    outputs, facts = place.ran(backend, settings(torch__compile=True))
    assert facts["provider"] == "compiled"
    assert facts["kernels"]["fp32"] >= 3
    assert "mkldnn::_convolution_pointwise" in facts["operators"]
    assert not {"aten::batch_norm", "aten::relu", "aten::add"} & set(facts["operators"])
    np.testing.assert_allclose(outputs, place.expected, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_the_compiler_does_not_give_up_on_code_it_has_seen_often(places):
    asked = settings(torch__compile=True)
    with torch._dynamo.config.patch(recompile_limit=1):
        told = [places["narrow"].ran(backend, asked, batch)[1]["provider"] for batch in (2, 3, 4)]
    assert told == ["compiled"] * 3


# ---- 8 bits --------------------------------------------------------------------------------------


@needs_vnni
@pytest.mark.parametrize("batch", [1, 3, 48])
def test_convolutions_and_linear_layers_have_integer_kernels_without_a_compiler(batch, places):
    place = places["convolutions"]
    outputs, facts = place.ran(backend, settings("int8"), batch)
    assert facts["kernels"] == {"int8": 4}
    assert facts["provider"] == "eager"
    assert not np.array_equal(outputs, place.expected[:batch])
    check.verify(place.expected[:batch], outputs, "int8")


@needs_vnni
@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=needs_compiler)], ids=["lowered", "compiled"]
)
def test_the_linear_layers_of_a_transformer_have_integer_kernels(compiled, places):
    place = places["attention"]
    outputs, facts = place.ran(backend, settings("int8", torch__compile=compiled), batch=6)
    assert facts["kernels"]["int8"] == 7
    check.verify(place.expected[:6], outputs, "int8")


@needs_bf16
def test_torchs_own_encoder_is_frozen_in_bf16(places):
    from torch.backends import mha

    place = places["encoder"]
    outputs, facts = place.ran(backend, settings("bf16", torch__freeze=True))
    assert facts["kernels"]["bf16"] > facts["kernels"].get("fp32", 0)
    assert mha.get_fastpath_enabled()
    check.verify(place.expected, outputs, "bf16")


@needs_vnni
def test_a_linear_layer_of_one_input_keeps_out_of_dynamic_ranges(places):
    place = places["encoder"]
    outputs, facts = place.ran(backend, settings("int8_dynamic"))
    assert facts["kernels"]["int8_dynamic"] == 5  # all but `wide`
    check.verify(place.expected, outputs, "int8_dynamic")


@needs_vnni
@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=needs_compiler)], ids=["lowered", "compiled"]
)
def test_a_sum_with_the_request_leaves_the_request_as_it_was(compiled, places):
    """Integer kernels add a residual in place, even into the array of the caller."""
    place = places["twice"]
    artifact = place.made(backend.stages(settings("int8"), NETWORK, DATA))
    x = {"x": place.x["x"][:4].copy()}
    with backend.open(artifact, settings("int8", torch__compile=compiled), 4, 1) as session:
        first, second = session.run(x), session.run(x)
        assert session.facts()["kernels"]["int8"] == 2
        third = session.run(x)
    assert np.array_equal(x["x"], place.x["x"][:4])
    assert np.array_equal(first, second)
    assert np.array_equal(first, third)
    check.verify(place.expected[:4], first, "int8")


@needs_vnni
def test_the_words_of_ptq_matter(places):
    place = places["convolutions"]
    base, _ = place.ran(backend, settings("int8"))
    for asked in ({"ptq__scheme": "symmetric"}, {"ptq__samples": 8}):
        outputs, facts = place.ran(backend, settings("int8", **asked))
        assert not np.array_equal(outputs, base)
        assert facts["kernels"] == {"int8": 4}
        check.verify(place.expected, outputs, "int8")


@needs_vnni
def test_symmetric_ranges_are_around_zero(places):
    place = places["attention"]
    zeros = {}
    for scheme in ("mixed", "symmetric"):
        asked = settings("int8", ptq__scheme=scheme)
        artifact = place.made(backend.stages(asked, NETWORK, DATA))
        network = torch_integers.networks.load(artifact)[0]
        inputs = [torch.from_numpy(place.x["x"][:2].copy())]
        graph = torch_integers.with_ranges(artifact, network, inputs)
        rounds = [n for n in graph.graph.nodes if "quantize_per_tensor" in str(n.target)]
        zeros[scheme] = {n.args[2] for n in rounds}
    assert zeros["symmetric"] in ({127}, {128})
    assert len(zeros["mixed"]) > 1


@needs_vnni
def test_dynamic_ranges_are_those_of_one_row(places):
    place = places["attention"]
    together, facts = place.ran(backend, settings("int8_dynamic"))
    alone, _ = place.ran(backend, settings("int8_dynamic"), batch=1)
    assert facts["kernels"] == {"int8_dynamic": 7, "fp32": 1}
    assert not backend.depends_on_batch(settings("int8_dynamic"))
    assert not np.array_equal(together, place.expected)
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-4, atol=1e-5)
    check.verify(place.expected, together, "int8_dynamic")


@needs_vnni
@needs_compiler
def test_dynamic_ranges_compiled(places):
    place = places["attention"]
    asked = settings("int8_dynamic", torch__compile=True)
    outputs, facts = place.ran(backend, asked, batch=6)
    assert facts["provider"] == "compiled"
    assert facts["kernels"]["int8_dynamic"] == 7
    check.verify(place.expected[:6], outputs, "int8_dynamic")


def test_too_few_samples_and_no_linear_layer_are_told(places):
    with pytest.raises(StageError, match="999 calibration samples asked for, the data has 48"):
        places["convolutions"].ran(backend, settings("int8", ptq__samples=999))
    with pytest.raises(StageError, match="no linear layer"):
        places["filters"].ran(backend, settings("int8_dynamic"))


def test_the_artifact_holds_no_code(places):
    place = places["convolutions"]
    artifact = place.made(backend.stages(settings("int8"), NETWORK, DATA))
    ranges = torch.load(artifact / torch_integers.RANGES, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in ranges["ranges"].values())
    assert {p.name for p in artifact.iterdir()} == {"network.pt", "ranges.pt", "source.json"}


# ---- what cannot run -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "flag", "kind", "reason"),
    [
        (settings("fp16"), "avx512_vnni", "not on this target", "fp16"),
        (settings("bf16"), "avx512_vnni", "not on this target", "bf16"),
        (settings("int8_weights"), "avx512_vnni", "not yet upstream", "widens"),
        (settings("int4_weights"), "avx512_vnni", "not yet upstream", "GPUs"),
        (settings("int8"), "avx2", "not on this target", "VNNI"),
        (settings("int8_dynamic"), "avx2", "not on this target", "VNNI"),
        (settings("int8", torch__freeze=True), "avx512_vnni", "never", "TorchScript"),
        (settings("int8_dynamic", torch__freeze=True), "avx512_vnni", "never", "TorchScript"),
        (settings("int8", ptq__method="entropy"), "avx_vnni", "not yet upstream", "entropy"),
        (settings("int8", ptq__granularity="tensor"), "avx_vnni", "not yet upstream", "channel"),
        (settings("int8", ptq__keep=1), "avx_vnni", "not yet ours", "higher precision"),
    ],
)
def test_what_cannot_run_is_told_before(asked, flag, kind, reason):
    target = Target("here", 1, 1, None, Machine("imagined", (flag,), (0,), 2**30))
    found = backend.reject(asked, target, MODEL)
    assert found.kind == kind
    assert reason in found.reason


def test_without_a_compiler_nothing_is_compiled(monkeypatch):
    target = Target("here", 1, 1, None, HERE)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert backend.reject(settings(), target, MODEL) is None
    found = backend.reject(settings(torch__compile=True), target, MODEL)
    assert found.kind == "not on this target"
    assert "g++" in found.reason
