"""FP8: what is rounded, to which numbers, and what cannot be."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays, fp8, graphs
from autotune.errors import StageError
from autotune.task import ModelSource
from autotune.training import network as networks

RNG = np.random.default_rng(0)
X = {"x": RNG.normal(size=(64, 4, 8)).astype(np.float32)}


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array, dtype=np.float32), name)


def model(nodes, tensors=(), opset=17):
    """From x (n, 4, 8) to y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 4, 8))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def attention():
    """Two projections of one input, their product, a mean whose axes are an attribute until 17."""
    weights = [tensor(n, RNG.normal(size=(8, 8))) for n in ("wq", "wk")]
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("MatMul", ["x", "wk"], ["k"]),
        helper.make_node("Transpose", ["k"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["y"], axes=[2], keepdims=0),
    ]
    return model(nodes, weights)


def made(source, folder, samples=32):
    """The model by the stage's own function, and what it told."""
    for name in ("model", "data", "out"):
        (folder / name).mkdir()
    onnx.save(source, str(folder / "model" / "model.onnx"))
    networks.write_source(ModelSource(onnx="model.onnx"), folder / "model")
    arrays.write(folder / "data", dict.fromkeys(("train", "calibration", "test"), (X, None)))
    stages = Stage("model", "", "onnx"), Stage("data", "", "data")
    stage = fp8.stage(*stages, {"ptq.samples": samples})
    inputs = (folder / "model", folder / "data")
    facts = fp8.run(StageContext(stage, inputs, folder / "out", folder))
    return graphs.load(folder / "out"), facts


def nearest(values, scale):
    """``values`` as E4M3 holds them, by a library that is not ONNX's."""
    return (values / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


def test_factors_are_rounded_and_nothing_else_is_changed(tmp_path):
    source = attention()
    found, facts = made(source, tmp_path)
    onnx.checker.check_model(found, full_check=True)
    assert facts["quantized"] == 3
    pairs = [n for n in found.graph.node if n.op_type == "QuantizeLinear"]
    assert sorted(n.input[0] for n in pairs) == ["q", "t", "wk", "wq", "x"]  # x once for both
    x = X["x"][:5]
    wanted = ReferenceEvaluator(source).run(None, {"x": x})[0]
    near = ReferenceEvaluator(found).run(None, {"x": x})[0]
    session = onnxruntime.InferenceSession(found.SerializeToString())
    np.testing.assert_allclose(session.run(None, {"x": x})[0], near, atol=0.05)
    assert 0 < np.abs(near - wanted).max() < 0.1 * np.abs(wanted).max()


def test_a_scale_moves_the_largest_magnitude_to_the_largest_number(tmp_path):
    weights = np.array([[0.5, -7.0], [0.01, 3.3]] * 4, dtype=np.float32)
    source = model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("w", weights)])
    found, _ = made(source, tmp_path, samples=16)
    scales = {t.name: numpy_helper.to_array(t) for t in found.graph.initializer}
    seen = np.abs(X["x"][:16]).max()
    assert scales["w_scale"] == np.float32(7.0 / 448)
    assert scales["x_scale"] == np.float32(seen / 448)  # of the calibration samples asked for
    x = X["x"][:16]
    wanted = nearest(x, scales["x_scale"]) @ nearest(weights, scales["w_scale"])
    answer = ReferenceEvaluator(found).run(None, {"x": x})[0]
    np.testing.assert_allclose(answer, wanted, rtol=1e-5, atol=1e-5)


def test_what_the_samples_did_not_reach_is_the_largest_number_not_infinite(tmp_path):
    source = model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("w", np.ones((8, 1)))])
    found, _ = made(source, tmp_path)
    session = onnxruntime.InferenceSession(found.SerializeToString())
    far = session.run(None, {"x": np.full((1, 4, 8), 1e6, dtype=np.float32)})[0]
    np.testing.assert_allclose(far, 8 * np.abs(X["x"][:32]).max(), rtol=1e-3)


def test_zeros_have_a_scale_that_16_bits_hold(tmp_path):
    source = model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("w", np.zeros((8, 2)))])
    found, _ = made(source, tmp_path)
    scale = next(t for t in found.graph.initializer if t.name == "w_scale")
    assert numpy_helper.to_array(scale).astype(np.float16) > 0


def test_a_newer_model_keeps_its_opset(tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    source = model([node], [tensor("w", np.ones((8, 2)))], opset=21)
    source.ir_version = 10
    found, _ = made(source, tmp_path)
    assert found.opset_import[0].version == 21


def test_what_cannot_be_rounded_is_told(tmp_path):
    with pytest.raises(StageError, match="has none of Conv, Gemm, MatMul: it is made of 1 Relu"):
        made(model([helper.make_node("Relu", ["x"], ["y"])]), tmp_path)
    masked = [
        helper.make_node("Add", ["x", "mask"], ["m"]),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    weights = [tensor("mask", np.full(8, -np.inf)), tensor("w", np.ones((8, 2)))]
    with pytest.raises(StageError, match="m takes infinite values, which 8 bits cannot span"):
        fp8.rounded(model(masked, weights, opset=19), X)
