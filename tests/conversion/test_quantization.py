"""INT8 with layers kept, dynamic INT8 and packed weights: what is made, and how each refuses."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conversion_nets import (
    DATA,
    ONNX,
    Attention,
    Convolutions,
    Encoder,
    exported,
    made,
    written,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from autotune.backends import onnxruntime as backend
from autotune.conversion import dynamic, export, qdq, simplify, weights
from autotune.errors import StageError
from autotune.measure import check

INT8 = {"precision": "int8", "onnxruntime.level": "all", "ptq.samples": 32}


def product(name, second, out, inputs="x"):
    return helper.make_node("MatMul", [inputs, second], [out], name=name)


def plain(x, folder):
    session = onnxruntime.InferenceSession(str(folder / "onnx" / export.FILE))
    return session.run(None, {"x": x})[0]


def int8(x, folder, **asked):
    """Outputs, kernels and facts of INT8 on ONNX Runtime."""
    words = INT8 | {w.replace("__", "."): value for w, value in asked.items()}
    artifact, facts = made(backend.stages(words, ONNX, DATA), folder)
    with backend.open(artifact, words, len(x), threads=1) as session:
        return session.run({"x": x}), session.facts()["kernels"], facts


# ---- layers kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("operators", ["all", "products"])
@pytest.mark.parametrize("keep", [0, 1, 3, 6])
@pytest.mark.parametrize("net", [Convolutions, Attention])
def test_as_many_layers_as_asked_run_in_floating_point(net, keep, operators, tmp_path):
    torch.manual_seed(0)
    x = exported(net(), tmp_path)
    layers = {Convolutions: 2, Attention: 9}[net]
    words = {"ptq__keep": keep, "onnxruntime__operators": operators}
    if keep >= layers:
        with pytest.raises(StageError, match=rf"ptq.keep is {keep}, but the model has {layers} "):
            int8(x, tmp_path, **words)
        return
    outputs, kernels, facts = int8(x, tmp_path, **words)
    assert kernels == {"int8": layers - keep, "fp32": keep}
    assert len(facts["kept"]) == keep
    check.verify(plain(x, tmp_path), outputs, "int8")


def test_keeping_the_sensitive_layer_makes_the_outputs_better(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"first": rng.normal(size=(6, 8)), "second": rng.normal(size=(8, 3))}
    tensors["first"][0] = 0
    tensors = {name: array.astype(np.float32) for name, array in tensors.items()}
    nodes = [product("wild", "first", "a"), product("calm", "second", "y", "a")]
    x = written(nodes, tensors, (6,), tmp_path)
    x[:, 0] = 400  # what the first layer ignores widens the steps of what it reads
    np.save(tmp_path / "data" / "calibration.x0.npy", x)
    words = {"onnxruntime__operators": "products"}
    rough, _, _ = int8(x, tmp_path, **words)
    fine, _, facts = int8(x, tmp_path, ptq__keep=1, **words)
    exact = plain(x, tmp_path)
    assert facts["kept"] == ["wild"]
    assert np.linalg.norm(fine - exact) < 0.1 * np.linalg.norm(rough - exact)


def test_a_kept_layer_is_found_where_the_preparation_renames_it(tmp_path):
    """A product and its sum become one Gemm with a name of its own."""
    rng = np.random.default_rng(0)
    shapes = {"first": (6, 8), "bias": (8,), "second": (8, 3)}
    tensors = {name: rng.normal(size=of).astype(np.float32) for name, of in shapes.items()}
    tensors["first"] *= 100
    add = helper.make_node("Add", ["a", "bias"], ["b"], name="sum")
    nodes = [product("", "first", "a"), add, product("next", "second", "y", "b")]
    x = written(nodes, tensors, (6,), tmp_path)
    kept = int8(x, tmp_path, ptq__keep=1)[2]["kept"]
    assert kept in (["a"], ["next"])
    _, kernels, _ = int8(x, tmp_path, ptq__keep=1)
    assert kernels == {"int8": 1, "fp32": 1}


def test_without_layers_kept_no_sensitivity_is_measured():
    names = [stage.name for stage in qdq.stage(ONNX, DATA, INT8 | {"ptq.keep": 0}).chain()]
    assert "sensitivity" not in names
    more = [qdq.stage(ONNX, DATA, INT8 | {"ptq.keep": keep}) for keep in (1, 2)]
    assert len({stage.inputs[2].key for stage in more}) == 1
    assert len({stage.key for stage in more}) == 2


# ---- static INT8 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["mixed", "symmetric"])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_scales_and_zeros_are_as_asked(scheme, granularity, tmp_path):
    torch.manual_seed(0)
    x = exported(Convolutions(), tmp_path)
    words = {"ptq.scheme": scheme, "ptq.granularity": granularity}
    artifact, _ = made(qdq.stage(ONNX, DATA, INT8 | words), tmp_path)
    tensors = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load(str(artifact / export.FILE)).graph.initializer
    }
    zeros = [z for n, z in tensors.items() if n.endswith("_zero_point") and z.dtype == np.uint8]
    assert zeros
    assert all(z == 128 for z in zeros) == (scheme == "symmetric")
    sizes = {
        tensors[n.replace("_quantized", "_scale")].size for n, t in tensors.items() if t.ndim == 4
    }
    assert sizes == ({16} if granularity == "channel" else {1})
    _, kernels, _ = int8(x, tmp_path, ptq__scheme=scheme, ptq__granularity=granularity)
    assert kernels == {"int8": 2, "fp32": 0}


def test_a_stock_encoder_whose_symbolic_shapes_fail_is_quantized(tmp_path):
    torch.manual_seed(0)
    x = exported(Encoder(), tmp_path)
    outputs, kernels, _ = int8(x, tmp_path, onnxruntime__operators="products")
    assert kernels["fp32"] == 0
    check.verify(plain(x, tmp_path), outputs, "int8")


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_an_infinite_mask_is_told_and_products_alone_go_round_it(method, tmp_path):
    torch.manual_seed(0)
    x = exported(Attention(masked=-float("inf")), tmp_path)
    with pytest.raises(StageError, match="infinite values, which 8 bits cannot span: mask with a"):
        int8(x, tmp_path, ptq__method=method)
    outputs, _, _ = int8(x, tmp_path, ptq__method=method, onnxruntime__operators="products")
    check.verify(plain(x, tmp_path), outputs, "int8")


def test_a_model_without_an_operator_that_has_an_int8_kernel_is_told(tmp_path):
    written([helper.make_node("Sin", ["x"], ["y"], name="only")], {}, (4,), tmp_path)
    with pytest.raises(StageError, match=r"no operator of the model has an INT8 kernel .* 1 Sin"):
        made(qdq.stage(ONNX, DATA, INT8), tmp_path)


def test_a_transposed_convolution_is_neither_ranked_nor_rounded(tmp_path):
    """ONNX Runtime has no INT8 kernel for it: keep counts the others, its weights stay exact."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=(4, 4, 3, 3)) for name in ("first", "wide", "last")}
    tensors = {name: array.astype(np.float32) for name, array in tensors.items()}
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], name="conv"),
        helper.make_node("ConvTranspose", ["a", "wide"], ["b"], name="up"),
        helper.make_node("Conv", ["b", "last"], ["y"], name="end"),
    ]
    x = written(nodes, tensors, (4, 8, 8), tmp_path)
    outputs, kernels, facts = int8(x, tmp_path, ptq__keep=1)
    assert facts["kept"][0] in ("conv", "end")
    assert kernels == {"int8": 1, "fp32": 2}
    check.verify(plain(x, tmp_path), outputs, "int8")
    artifact, _ = made(qdq.stage(ONNX, DATA, INT8), tmp_path)
    left = {t.name: t for t in onnx.load(str(artifact / export.FILE)).graph.initializer}
    assert np.array_equal(onnx.numpy_helper.to_array(left["wide"]), tensors["wide"])
    with pytest.raises(StageError, match=r"ptq.keep is 2, but the model has 2 layers"):
        int8(x, tmp_path, ptq__keep=2)


# ---- dynamic INT8 --------------------------------------------------------------------------------


def test_dynamic_quantization_leaves_convolutions_alone(tmp_path):
    exported(Convolutions(), tmp_path)
    with pytest.raises(StageError, match=r"int8_dynamic quantizes matrix products .* 2 Conv"):
        made(dynamic.stage(ONNX), tmp_path)


def test_dynamic_quantization_counts_what_became_integer(tmp_path):
    """A Gemm whose product is scaled is none that the quantizer takes."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=(8, 8)).astype(np.float32) for name in ("u", "w")}
    scaled = helper.make_node("Gemm", ["x", "u"], ["a"], name="scaled", alpha=2.0)
    written([scaled, product("plain", "w", "y", "a")], tensors, (8,), tmp_path)
    _, facts = made(dynamic.stage(ONNX), tmp_path)
    assert facts["quantized"] == 1


def test_dynamic_quantization_hangs_on_the_batch_and_says_so(tmp_path):
    torch.manual_seed(0)
    x = exported(Attention(), tmp_path)
    artifact, facts = made(dynamic.stage(ONNX), tmp_path)
    assert facts["quantized"] == 7
    words = {"precision": "int8_dynamic", "onnxruntime.level": "all"}
    with backend.open(artifact, words, 8, threads=1) as eight:
        together = eight.run({"x": x[:8]})
    with backend.open(artifact, words, 1, threads=1) as one:
        alone = np.concatenate([one.run({"x": x[i : i + 1]}) for i in range(8)])
    assert np.abs(together - alone).max() > 1e-4
    assert backend.depends_on_batch(words)
    assert not backend.depends_on_batch({"precision": "int8"})


# ---- weights alone -------------------------------------------------------------------------------


def unpacked(packed, scales, bits):
    """Weights (inputs, outputs) from what ``pack`` made, the last group's filling included."""
    if bits == 4:
        packed = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:2], -1)
    values = (packed.astype(np.float32) - 2 ** (bits - 1)) * scales[..., None]
    return values.reshape(len(values), -1).T


@given(
    bits=st.sampled_from([4, 8]),
    group=st.sampled_from([16, 32, 64, 128]),
    inputs=st.integers(1, 150),
    zeros=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_packed_weights_are_near_and_zeros_stay_zero(bits, group, inputs, zeros, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(inputs, 3)).astype(np.float32)
    values[rng.random(values.shape) < zeros] = 0
    packed, scales = weights.pack(values, bits, group)
    back = unpacked(packed, scales, bits)[:inputs]
    steps = np.abs(scales).repeat(group, 1).T[:inputs]
    assert (back[values == 0] == 0).all()
    assert (np.abs(back - values) <= steps * (1 + 1e-5)).all()
    clipped = values / np.where(steps == 0, 1, scales.repeat(group, 1).T[:inputs])
    inner = clipped <= 2 ** (bits - 1) - 1
    assert (np.abs(back - values)[inner] <= steps[inner] * (0.5 + 1e-5)).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [16, 64])
def test_onnx_runtime_reads_packed_weights_as_they_are_meant(bits, group, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 5)).astype(np.float32)
    x = written([product("only", "w", "y")], {"w": values}, (40,), tmp_path)
    artifact, facts = made(weights.stage(ONNX, bits, group, "float"), tmp_path)
    expected = x @ unpacked(*weights.pack(values, bits, group), bits)[:40]
    words = {"precision": f"int{bits}_weights", "onnxruntime.level": "all"}
    with backend.open(artifact, words, 48, threads=1) as session:
        np.testing.assert_allclose(session.run({"x": x}), expected, rtol=1e-4, atol=1e-4)
        assert session.facts()["kernels"] == {"fp32": 0, f"int{bits}_weights": 1}
    assert facts["quantized"] == 1
    left = onnx.load(str(artifact / export.FILE)).graph.initializer
    assert sorted(t.name for t in left) == ["only/packed", "only/scales"]


@pytest.mark.parametrize(
    ("attributes", "quantized"),
    [
        ({}, True),
        ({"transB": 1}, True),
        ({"alpha": 1.0, "beta": 1.0, "transA": 0}, True),
        ({"alpha": 2.0}, False),
        ({"beta": 0.5}, False),
    ],
)
def test_a_gemm_is_a_product_and_a_sum_only_where_it_is(attributes, quantized, tmp_path):
    rng = np.random.default_rng(0)
    shape = (5, 40) if attributes.get("transB") else (40, 5)
    tensors = {"w": rng.normal(size=shape), "b": rng.normal(size=5)}
    tensors = {name: array.astype(np.float32) for name, array in tensors.items()}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="only", **attributes)
    x = written([node], tensors, (40,), tmp_path)
    if not quantized:
        with pytest.raises(StageError, match=r"int8_weights quantizes matrix products .* 1 Gemm"):
            made(weights.stage(ONNX, 8, 32, "float"), tmp_path)
        return
    artifact, _ = made(weights.stage(ONNX, 8, 32, "float"), tmp_path)
    words = {"precision": "int8_weights", "onnxruntime.level": "all"}
    with backend.open(artifact, words, 48, threads=1) as session:
        check.verify(plain(x, tmp_path), session.run({"x": x}), "int8_weights")


def test_a_network_of_convolutions_has_no_weights_to_pack(tmp_path):
    exported(Convolutions(), tmp_path)
    with pytest.raises(StageError, match=r"int4_weights quantizes matrix products .* 2 Conv"):
        made(weights.stage(ONNX, 4, 32, "float"), tmp_path)


# ---- simplification ------------------------------------------------------------------------------


def test_a_simplified_model_is_smaller_computes_the_same_and_keeps_its_names(tmp_path):
    torch.manual_seed(0)
    x = exported(Attention(), tmp_path)
    artifact, facts = made(simplify.stage(ONNX), tmp_path)
    assert facts["nodes"] < facts["nodes_before"]
    before, after = (
        {n.name for n in onnx.load(str(f / export.FILE)).graph.node if n.op_type in qdq.PRODUCTS}
        for f in (tmp_path / "onnx", artifact)
    )
    assert before == after
    session = onnxruntime.InferenceSession(str(artifact / export.FILE))
    for count in (1, 5):
        outputs = session.run(None, {"x": x[:count]})[0]
        np.testing.assert_allclose(outputs, plain(x[:count], tmp_path), rtol=0, atol=1e-5)
