"""Small networks as ONNX artifacts, and the artifacts that stages make of them."""

import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays, export
from autotune.engine.execute import _function
from autotune.task import ModelSource
from autotune.training import network as networks

ONNX = Stage("onnx", "", "onnx")
DATA = Stage("data", "", "data")
PADDING = 8


class Convolutions(nn.Module):
    """Two convolutions, the second around a sum; 8x8 pixels of 2 channels."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        y = torch.relu(self.first(x))
        return torch.relu(self.second(y) + y).mean((2, 3))


class Attention(nn.Module):
    """A pre-norm transformer block over 6 tokens, which masks the padding."""

    def __init__(self, masked=-100.0):
        super().__init__()
        self.masked = masked
        self.tokens = nn.Embedding(PADDING + 1, 16)
        self.norm, self.after, self.last = (nn.LayerNorm(16) for _ in range(3))
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.output, self.head = nn.Linear(16, 16), nn.Linear(16, 4)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def split(self, x):
        return x.reshape(-1, 6, 2, 8).transpose(1, 2)

    def forward(self, tokens):
        there = tokens != PADDING
        mask = (1.0 - there.unsqueeze(1).unsqueeze(2).to(torch.float32)) * self.masked
        if self.masked == -float("inf"):
            mask = torch.where(there.unsqueeze(1).unsqueeze(2), 0.0, self.masked)
        x = self.tokens(tokens)
        y = self.norm(x)
        query, key, value = (self.split(f(y)) for f in (self.query, self.key, self.value))
        y = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.output(y.transpose(1, 2).reshape(-1, 6, 16)) + x
        x = self.down(nn.functional.gelu(self.up(self.after(x)))) + x
        return self.head(self.last(x).mean(1))


class Encoder(nn.Module):
    """PyTorch's own transformer encoder."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(PADDING + 1, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)

    def forward(self, tokens):
        return self.head(self.encoder(self.tokens(tokens)).mean(1))


def samples(network, count=48, seed=0):
    """Inputs that the network takes; tokens have padding anywhere but in front."""
    rng = np.random.default_rng(seed)
    if isinstance(network, Convolutions):
        return rng.normal(size=(count, 2, 8, 8)).astype(np.float32)
    tokens = rng.integers(0, PADDING + 1, (count, 6))
    tokens[:, 0] = 0
    return tokens


def exported(network, folder):
    """The network and its samples as the artifacts ``onnx`` and ``data``; and the samples."""
    x = samples(network)
    (folder / "onnx").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.from_numpy(x[:2]),),
            str(folder / "onnx" / export.FILE),
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: export.BATCH}, "y": {0: export.BATCH}},
            opset_version=export.OPSET,
            dynamo=False,
        )
    networks.write_source(ModelSource(onnx="model.onnx"), folder / "onnx")
    _data(x, folder)
    return x


def written(nodes, tensors, shape, folder, outputs=("y",)):
    """An ONNX model of these nodes from ``x`` to ``y``, both of this shape, as artifacts."""
    graph = helper.make_graph(
        nodes,
        "written",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "onnx").mkdir()
    onnx.save(model, str(folder / "onnx" / export.FILE))
    networks.write_source(ModelSource(onnx="model.onnx"), folder / "onnx")
    x = np.random.default_rng(0).normal(size=(48, *shape)).astype(np.float32)
    _data(x, folder)
    return x


def _data(x, folder):
    (folder / "data").mkdir()
    arrays.write(folder / "data", {part: ({"x": x}, None) for part in ("calibration", "test")})


def made(stage, folder):
    """The artifact of a stage and of each before it, and what the last one's function told."""
    if not stage.function:
        return folder / stage.name, {}
    out, scratch = folder / stage.key, folder / f"{stage.key}-scratch"
    inputs = tuple(made(before, folder)[0] for before in stage.inputs)
    out.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    return out, _function(stage.function)(StageContext(stage, inputs, out, scratch))
