"""What is said of a network that the exporter cannot write."""

import numpy as np
import pytest

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays, export
from autotune.errors import StageError
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import network as networks

NETS = """import torch
from torch import nn

class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.fft2(x).real

class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), Spectrum())
    def forward(self, x):
        return self.body(x).mean((2, 3))

class Plain(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x).flatten(1)

class Pool(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(3)
    def forward(self, x):
        return self.pool(x).flatten(1)

class Moody(nn.Module):
    calls = 0
    def forward(self, x):
        Moody.calls += 1
        if Moody.calls > 0:
            raise ValueError("not today")
        return x
"""


def refused(folder, factory):
    """What the export of a network of ``NETS`` says."""
    (folder / "nets.py").write_text(NETS)
    model = ModelSource(CodeRef(str(folder / "nets.py"), factory))
    for name in ("network", "data", "out", "scratch"):
        (folder / name).mkdir()
    networks.save(networks.build(model, Blueprint()), Blueprint(), model, folder / "network")
    x = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    arrays.write(folder / "data", {"test": ({"input": x}, None)})
    stage = export.stage(Stage("model", "", "network"), Stage("data", "", "data"))
    inputs = (folder / "network", folder / "data")
    with pytest.raises(StageError) as caught:
        export.run(StageContext(stage, inputs, folder / "out", folder / "scratch"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("factory", "operator", "where"),
    [
        ("Deep", "fft_fft2", " in module 'body.1' at {}/nets.py:6: "),
        ("Plain", "special_bessel_j0", " at {}/nets.py:17: "),
        ("Pool", "adaptive_max_pool2d", " in module 'pool' at {}/nets.py:24: "),
    ],
)
def test_the_operator_is_named_with_its_module_and_line(tmp_path, factory, operator, where):
    said = refused(tmp_path, factory)
    assert said.startswith(f"the ONNX exporter failed: {operator}{where.format(tmp_path)}")
    assert "GitHub" not in said
    assert "Caused by" not in said


def test_what_is_no_operators_fault_is_told_as_it_is(tmp_path):
    said = refused(tmp_path, "Moody")
    assert said == "the ONNX exporter failed: ValueError: not today"
