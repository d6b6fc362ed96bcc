"""The size of an ONNX graph: what is told of the torch network that it came from."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from autotune.conversion import graphs, onnx_size
from autotune.training import size


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 4)

    def forward(self, x):
        q, k, v = self.qkv(self.words(x)).chunk(3, -1)
        return self.out(torch.softmax(q @ k.transpose(-2, -1), -1) @ v)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body = kind(4, 8, bidirectional=True, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.body(x)[0])


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, groups=4),
        nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2),
        nn.Flatten(),
        nn.Linear(6 * 14 * 14, 5),
    )


NETWORKS = {
    "convolutions": (convolutions, np.ones((2, 3, 16, 16), np.float32)),
    "attention": (Attention, np.ones((2, 5), np.int64)),
    "lstm": (lambda: Recurrent(nn.LSTM), np.ones((2, 5, 4), np.float32)),
    "gru": (lambda: Recurrent(nn.GRU), np.ones((2, 5, 4), np.float32)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore")  # the tracer warns of shapes that it takes as constants
def test_a_graph_is_as_large_as_its_network(name, tmp_path):
    make, x = NETWORKS[name]
    network = make().eval()
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        network,
        (torch.from_numpy(x),),
        str(path),
        input_names=["x"],
        dynamic_axes={"x": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    told = onnx_size.of(graphs.plain(onnx.load(str(path))), {"x": x[:1]})
    expected = size.of(network, {"x": x})
    assert told["macs"] == expected["macs"] > 0
    spare = 0.02 * expected["parameters"]  # constants of the graph itself; a folded bias
    assert told["parameters"] == pytest.approx(expected["parameters"], abs=spare)
    assert told["parameters_read"] == pytest.approx(expected["parameters_read"], abs=spare)


def test_zeros_are_a_share_of_the_matrices():
    graph = product([[0.0, 1.0], [0.0, 2.0]])
    told = onnx_size.of(graph, {"x": np.ones((1, 2), np.float32)})
    assert told == {"parameters": 4.0, "parameters_read": 4.0, "sparsity": 0.5, "macs": 4.0}


def product(weights):
    """x @ weights"""
    table = np.array(weights, np.float32)
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [helper.make_tensor("w", TensorProto.FLOAT, table.shape, table.ravel())],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
