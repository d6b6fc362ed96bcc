"""The tiny task with a factory that refuses one width, and a space for it."""

from pathlib import Path

import pytest

from autotune.spec import load

TASK = """
from task import Net, data

def build_model(width=16):
    if width == 5:
        raise ValueError("five is refused")
    return Net(width)
"""
SPACE = """
name: tune
model: {factory: refusing.py:build_model, args: {width: 16}, weights: teacher.pt}
data: refusing.py:data
targets: {local: {lane_cores: 1, price_per_hour: 0.10}}
budget: {trials: 8, time: 4m}
space:
  batch: [1, 4]
  threads: [1, 2]
  student: {width: [16, 8, 5]}
  distill: {epochs: 1}
  precision: fp32
  backend:
    torch:
    onnxruntime:
      level: [basic, all]
"""


@pytest.fixture(scope="session")
def space_file(tiny) -> Path:
    """A space in which width 5 fails and two threads do not fit the lane."""
    (tiny / "refusing.py").write_text(TASK)
    path = tiny / "tune.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="session")
def spec(space_file):
    return load(space_file)


@pytest.fixture(scope="session")
def sound(space_file):
    """The part of the space in which everything runs."""
    return load(space_file, {"space.student.width": [16, 8], "space.threads": 1})
