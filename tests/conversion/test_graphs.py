"""Models as other exporters write them are read in one form."""

import logging

import numpy as np
import onnx
import pytest
from conversion_nets import ONNX, made, written
from onnx import TensorProto, helper, numpy_helper

from autotune.backends import onnxruntime as backend
from autotune.conversion import dynamic, export, graphs, weights
from autotune.errors import StageError
from autotune.measure import check

STAGES = {
    "int8_weights": weights.stage(ONNX, 8, 32, "float"),
    "int8_dynamic": dynamic.stage(ONNX),
}


def product():
    return [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Add", ["h", "b"], ["y"], name="sum"),
    ]


def stored(model):
    """Weights as nodes, the way some exporters write them."""
    for tensor in model.graph.initializer:
        node = helper.make_node("Constant", [], [tensor.name], value=tensor)
        model.graph.node.insert(0, node)
    del model.graph.initializer[:]


def replaceable(model):
    """Weights that are inputs too, as the format's version 3 has them."""
    for tensor in model.graph.initializer:
        place = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        model.graph.input.append(place)
    model.ir_version = 3


def branched(model):
    """The sum inside a branch, which reads a weight from outside."""
    branches = {
        f"{word}_branch": helper.make_graph(
            [helper.make_node(kind, ["h", "b"], [word])],
            word,
            [],
            [helper.make_tensor_value_info(word, TensorProto.FLOAT, None)],
        )
        for word, kind in (("then", "Add"), ("else", "Sub"))
    }
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    model.graph.node[1].CopyFrom(helper.make_node("If", ["c"], ["y"], name="if", **branches))


@pytest.mark.parametrize("precision", STAGES)
@pytest.mark.parametrize("form", [stored, replaceable, branched])
def test_weights_are_found_and_kept_however_the_model_holds_them(form, precision, tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"w": rng.normal(size=(8, 8)), "b": rng.normal(size=8)}
    x = written(product(), {k: v.astype(np.float32) for k, v in tensors.items()}, (8,), tmp_path)
    path = tmp_path / "onnx" / export.FILE
    words = {"precision": precision, "onnxruntime.level": "all"}
    with backend.open(path.parent, words | {"precision": "fp32"}, 48, threads=1) as session:
        expected = session.run({"x": x})
    model = onnx.load(str(path))
    form(model)
    onnx.save(model, str(path))
    artifact, _ = made(STAGES[precision], tmp_path)
    with backend.open(artifact, words, 48, threads=1) as session:
        check.verify(expected, session.run({"x": x}), precision)
        assert session.facts()["kernels"][precision] == 1


def test_a_constant_that_is_no_tensor_stays_a_node(tmp_path):
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Mul", ["x", "two"], ["y"]),
    ]
    written(nodes, {}, (3,), tmp_path)
    model = graphs.load(tmp_path / "onnx")
    assert [node.name for node in model.graph.node] == ["two", "y"]


@pytest.mark.parametrize("error", [ValueError("no  such\nthing"), StageError("ours")])
def test_a_library_is_blamed_in_its_words_and_the_root_logger_is_as_before(error):
    root = logging.getLogger()
    level = root.level

    @graphs.blame("the tool")
    def fails():
        assert root.level == logging.ERROR
        raise error

    with pytest.raises(StageError) as caught:
        fails()
    ours = isinstance(error, StageError)
    assert str(caught.value) == ("ours" if ours else "the tool failed: ValueError: no such thing")
    assert root.level == level
