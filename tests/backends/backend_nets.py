"""Small networks as artifacts, and the artifacts that a backend's stages make of them."""

import numpy as np

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays
from autotune.engine.execute import _function
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import network as networks

NETS = '''
import torch
from torch import nn

class Convolutions(nn.Module):
    """Convolutions, one of them around a sum, and a linear head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.third = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        y = torch.relu(self.norm(self.first(x)))
        y = torch.relu(self.second(y) + y)
        return self.head(torch.relu(self.third(y)).mean((2, 3)))

class Attention(nn.Module):
    """A transformer block over 6 places of 32 values."""

    def __init__(self):
        super().__init__()
        self.norm, self.after = nn.LayerNorm(32), nn.LayerNorm(32)
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.output, self.head = nn.Linear(32, 32), nn.Linear(32, 4)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def split(self, x):
        return x.reshape(-1, 6, 2, 16).transpose(1, 2)

    def forward(self, x):
        y = self.norm(x)
        query, key, value = (self.split(f(y)) for f in (self.query, self.key, self.value))
        y = nn.functional.scaled_dot_product_attention(query, key, value)
        x = self.output(y.transpose(1, 2).reshape(-1, 6, 32)) + x
        return self.head((self.down(nn.functional.gelu(self.up(self.after(x)))) + x).mean(1))

class Filters(nn.Module):
    """Nothing but a convolution."""

    def __init__(self):
        super().__init__()
        self.only = nn.Conv2d(2, 4, 3)

    def forward(self, x):
        return self.only(x).mean((2, 3))

class Twice(nn.Module):
    """A linear layer around a sum with what comes in."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(torch.relu(self.body(x) + x))

class Recurrent(nn.Module):
    """An LSTM over 6 places, and a linear head."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.LSTM(32, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.body(x)[0][:, -1])

class Narrow(nn.Module):
    """Autocast is switched off inside."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.head(torch.relu(self.body(x)))

class Encoder(nn.Module):
    """A layer of torch's own encoder over 6 places, a linear layer of one input, and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.one, self.wide, self.head = nn.Linear(32, 1), nn.Linear(1, 32), nn.Linear(32, 4)

    def forward(self, x):
        y = self.body(x).mean(1)
        return self.head(y + self.wide(self.one(y)))

def encoder():
    torch.manual_seed(0)
    return Encoder()

def convolutions():
    torch.manual_seed(0)
    return Convolutions()

def attention():
    torch.manual_seed(0)
    return Attention()

def filters():
    torch.manual_seed(0)
    return Filters()

def twice():
    torch.manual_seed(0)
    return Twice()

def recurrent():
    torch.manual_seed(0)
    return Recurrent()

def narrow():
    torch.manual_seed(0)
    return Narrow()
'''
SHAPES = {
    "convolutions": (2, 8, 8),
    "attention": (6, 32),
    "filters": (2, 8, 8),
    "twice": (32,),
    "recurrent": (6, 32),
    "narrow": (6,),
    "encoder": (6, 32),
}
SAMPLES = 48
NETWORK = Stage("network", "", "network")
DATA = Stage("data", "", "data")


class Place:
    """A network's folder: its artifact, its data, and what stages make of them.

    Attributes:
        x: The samples, by the input's name.
        expected: What the network itself predicts for them.
    """

    def __init__(self, net, folder):
        self._folder = folder
        (folder / "nets.py").write_text(NETS)
        model = ModelSource(CodeRef(str(folder / "nets.py"), net))
        (folder / "network").mkdir()
        (folder / "data").mkdir()
        network = networks.given(model)
        networks.save(network, Blueprint(), model, folder / "network")
        shape = (SAMPLES, *SHAPES[net])
        self.x = {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
        self.expected = networks.predict(network, self.x, 0)
        parts = ("train", "calibration", "test")
        arrays.write(folder / "data", dict.fromkeys(parts, (self.x, None)))

    def made(self, stage):
        """The folder of the stage's artifact, by the real function of each stage before it."""
        if not stage.function:
            return self._folder / stage.name
        out = self._folder / stage.key
        if not out.exists():
            inputs = tuple(self.made(before) for before in stage.inputs)
            out.mkdir()
            (self._folder / f"{stage.key}-scratch").mkdir()
            scratch = self._folder / f"{stage.key}-scratch"
            _function(stage.function)(StageContext(stage, inputs, out, scratch))
        return out

    def ran(self, backend, settings, batch=SAMPLES, threads=1):
        """The predictions for the first ``batch`` samples, and the session's facts."""
        artifact = self.made(backend.stages(settings, NETWORK, DATA))
        with backend.open(artifact, settings, batch, threads) as session:
            outputs = session.run({"x": self.x["x"][:batch]})
            return outputs, session.facts()
