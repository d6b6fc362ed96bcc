"""A folder with a model's files, and a space file written into it."""

from pathlib import Path

import pytest

from autotune.spec import Spec, dump, load

BASE = """\
name: small
seed: 3
model:
  factory: task.py:build_model
  args: {width: 16, depth: 2}
  weights: teacher.pt
data: task.py:data
metrics: {accuracy: top1}
objectives: {accuracy: max, latency_p50: min, cost: min}
slo:
  - latency_p99 <= 2ms
  - accuracy >= baseline - 1pt
  - minimize cost
targets:
  local: {lane_cores: 1, price_per_hour: 0.10}
budget: {trials: 8, time: 4m}
space:
  batch: [1, 8]
  threads: 1
  student:
    width: [16, 8]
  distill: {temperature: 4, lr: 6e-3}
  prune:
    structure: [none, channel]
    ratio: [0.3, 0.5]
  finetune: {epochs: 4}
  precision: [fp32, int8]
  ptq: {samples: [32, 128]}
  backend:
    onnxruntime:
      level: [basic, all]
    openvino:
"""

TASK = """\
raise RuntimeError("validating a space file must not import the user's code")

def build_model(width, depth): ...
def data(): ...
def score(predictions, labels): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "teacher.pt").write_bytes(b"")
    (tmp_path / "model.onnx").write_bytes(b"")
    return tmp_path


@pytest.fixture
def write(folder: Path):
    """Write the base file, with one piece of it replaced."""

    def writer(old: str = "", new: str = "") -> Path:
        assert BASE.count(old) == 1 or not old, f"{old!r} is not in the file exactly once"
        path = folder / "space.yaml"
        path.write_text(BASE.replace(old, new) if old else BASE)
        return path

    return writer


@pytest.fixture
def base() -> str:
    return BASE


@pytest.fixture
def again(folder: Path):
    """Write a spec's resolved form into another folder and load it from there."""

    def loader(spec: Spec) -> Spec:
        path = folder / "elsewhere" / "spec.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dump(spec.resolved))
        return load(path)

    return loader
