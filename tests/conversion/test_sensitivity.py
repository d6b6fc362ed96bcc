"""Which layers suffer most from INT8: measured one at a time, against the same sum by hand."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays, export, sensitivity
from autotune.errors import StageError
from autotune.task import ModelSource
from autotune.training import network as networks

OUTLIER = 400.0


def two_layers(folder, x, names=("wild", "calm"), part="calibration"):
    """x @ first, ReLU, @ second, and the data; the first reads an outlier that it ignores."""
    rng = np.random.default_rng(1)
    first = rng.normal(size=(6, 8)).astype(np.float32)
    first[0] = 0
    second = rng.normal(size=(8, 3)).astype(np.float32)
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "first"], ["a"], name=names[0]),
                helper.make_node("Relu", ["a"], ["b"]),
                helper.make_node("MatMul", ["b", "second"], ["y"], name=names[1]),
            ],
            "two",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
            [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (folder / "model").mkdir()
    (folder / "data").mkdir()
    onnx.save(model, str(folder / "model" / export.FILE))
    networks.write_source(ModelSource(onnx="model.onnx"), folder / "model")
    arrays.write(folder / "data", {part: ({"x": x}, None)})
    return first, second


def inputs(count=40):
    x = np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)
    x[0, 0] = OUTLIER
    return x


def made(folder):
    stage = sensitivity.stage(Stage("export", "", "onnx"), Stage("data", "", "data"))
    (folder / "out").mkdir()
    sensitivity.run(
        StageContext(stage, (folder / "model", folder / "data"), folder / "out", folder)
    )
    return folder / "out"


def rounded(values, low, high, step, zero=0):
    """Values as integers between two bounds, and back."""
    return (np.clip(np.round(values / step) + zero, low, high) - zero) * step


def quantized(x, weights):
    """``x @ weights`` with 8-bit x (one scale, any zero) and weights (a scale a column)."""
    least, largest = min(x.min(), 0), max(x.max(), 0)
    step = (largest - least) / 255
    x = rounded(x, 0, 255, step, np.round(-least / step))
    return x @ rounded(weights, -127, 127, np.abs(weights).max(0) / 127)


def test_the_error_is_that_of_the_layer_quantized_alone(tmp_path):
    x = inputs()
    first, second = two_layers(tmp_path, x)
    found = {
        layer["node"]: layer["error"]
        for layer in json.loads((made(tmp_path) / sensitivity.LIST).read_text())
    }
    x = x[: sensitivity.SAMPLES].astype(np.float64)
    hidden = np.maximum(x @ first, 0)
    exact = hidden @ second
    by_hand = {
        "wild": np.maximum(quantized(x, first), 0) @ second,
        "calm": quantized(hidden, second),
    }
    assert set(found) == set(by_hand)
    for name, changed in by_hand.items():
        expected = np.linalg.norm(changed - exact) / np.linalg.norm(exact)
        assert found[name] == pytest.approx(expected, rel=0.05)


def test_the_most_sensitive_layer_comes_first_and_one_must_be_left(tmp_path):
    two_layers(tmp_path, inputs())
    out = made(tmp_path)
    assert sensitivity.most(out, 0) == ()
    assert sensitivity.most(out, 1) == ("wild",)
    with pytest.raises(StageError, match=r"ptq.keep is 2, but the model has 2 layers"):
        sensitivity.most(out, 2)


def test_only_the_kinds_asked_for_are_counted_and_ranked(tmp_path):
    two_layers(tmp_path, inputs())
    out = made(tmp_path)
    ranked = [
        {"node": "wide", "operator": "ConvTranspose", "error": 1.0},
        *json.loads((out / sensitivity.LIST).read_text()),
    ]
    (out / sensitivity.LIST).write_text(json.dumps(ranked))
    assert sensitivity.most(out, 1) == ("wide",)
    assert sensitivity.most(out, 1, ("MatMul",)) == ("wild",)
    with pytest.raises(StageError, match=r"ptq.keep is 2, but the model has 2 layers"):
        sensitivity.most(out, 2, ("MatMul",))


def test_an_unnamed_layer_is_called_by_its_output(tmp_path):
    two_layers(tmp_path, inputs(), names=("", ""))
    assert sensitivity.most(made(tmp_path), 1) == ("a",)


def test_fewer_calibration_samples_than_it_likes_are_enough(tmp_path):
    two_layers(tmp_path, inputs(3))
    assert sensitivity.most(made(tmp_path), 1) == ("wild",)


def test_without_calibration_samples_it_says_so(tmp_path):
    two_layers(tmp_path, inputs(), part="test")
    with pytest.raises(StageError, match="needs calibration samples"):
        made(tmp_path)


def test_a_model_without_layers_is_told(tmp_path):
    two_layers(tmp_path, inputs())
    path = tmp_path / "model" / export.FILE
    model = onnx.load(str(path))
    node = helper.make_node("Relu", ["x"], ["y"], name="only")
    del model.graph.node[:]
    model.graph.node.append(node)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6
    onnx.save(model, str(path))
    assert onnxruntime.InferenceSession(str(path)).get_outputs()
    with pytest.raises(StageError, match=r"no layer that INT8 quantizes"):
        made(tmp_path)
