"""A model by itself is profiled on drawn samples or the user's, and what cannot be is told."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autotune.deploy.bench import Asked
from autotune.deploy.profile import profile
from autotune.errors import UserError


@pytest.fixture
def model(tmp_path):
    """A product and a bias: x (batch, places, 128) -> the same shape."""
    shapes = (["batch", "places", 128], ["batch", "places", 128])
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip("xy", shapes, strict=True)
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="product"),
        helper.make_node("Softmax", ["product"], ["y"], name="shares"),
    ]
    weights = helper.make_tensor("w", TensorProto.FLOAT, (128, 128), np.full(128 * 128, 0.01))
    graph = helper.make_graph(nodes, "net", [x], [y], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, str(tmp_path / "net.onnx"))
    return str(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("backend", "product"), [("onnxruntime", "MatMul"), ("openvino", "FullyConnected")]
)
def test_an_onnx_file_on_drawn_samples(model, backend, product):
    seen = profile(model, Asked(backend=backend, batch=2, sizes={"places": 64}))
    assert seen.model == model
    assert seen.configuration["backend"] == backend
    assert (seen.configuration["batch"], seen.configuration["threads"]) == (2, 1)
    assert re.search(r"random values \(x float32 \d+x64x128; seed 0\), not real data", seen.data)
    calls = {row.operator: row.calls for row in seen.profile.operators()}
    assert calls[product] == calls["Softmax"] == 1
    assert seen.profile.bare_ms > 0


def test_an_onnx_file_on_the_users_samples(model, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((32, 7, 128), dtype=np.float32))
    seen = profile(model, Asked(data=tmp_path / "x.npy"))
    assert seen.data == str(tmp_path / "x.npy")
    assert {row.precision for row in seen.profile.rows} == {"fp32"}


def test_what_cannot_be_profiled_is_told(model, tmp_path):
    with pytest.raises(UserError, match="an ONNX model does not run in PyTorch"):
        profile(model, Asked(backend="torch", sizes={"places": 64}))
    with pytest.raises(UserError, match="leaves the axis 'places' open"):
        profile(model, Asked())
    with pytest.raises(UserError, match="4096 threads"):
        profile(model, Asked(threads=4096, sizes={"places": 64}))
    with pytest.raises(UserError, match="there is no such file or folder"):
        profile(str(tmp_path / "nothing"), Asked())
