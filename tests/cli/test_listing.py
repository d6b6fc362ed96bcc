"""The listing of a space as a person reads it."""

import pytest
from rich.console import Console

from autotune.cli import listing
from autotune.spec import Spec, load

SPACE = """\
model: {factory: task.py:build_model, args: {width: 16}}
data: task.py:data
space:
  batch: [1, 8]
  student: {width: [16, 8]}
  distill: {epochs: 3}
  precision: [fp32, int8]
  backend: {onnxruntime: {level: [basic, all]}}
"""


@pytest.fixture
def spec(tmp_path) -> Spec:
    (tmp_path / "task.py").write_text("def build_model(width): ...\ndef data(): ...\n")
    (tmp_path / "space.yaml").write_text(SPACE)
    return load(tmp_path / "space.yaml")


def listed(spec: Spec, *, everything: bool, width: int = 100) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as told:
        listing.show(spec, console, everything=everything)
    return told.get()


def test_what_is_searched_is_told_with_its_owner_and_what_it_does(spec):
    told = listed(spec, everything=False)
    assert "student  technique distill: " in told
    assert "onnxruntime  backend: ONNX Runtime" in told
    lines = {line.split()[0]: line for line in told.splitlines() if line.strip()}
    assert "16, 8" in lines["width"]
    assert "the factory's argument width" in lines["width"]
    assert "basic, all" in lines["level"]
    assert "graph optimization level" in lines["level"]
    assert "3" in lines["epochs"]
    assert "conv_fusion" not in told
    assert "--all" in told


def test_all_tells_what_could_be_searched_and_what_would_bring_it_in(spec):
    told = listed(spec, everything=True)
    words = " ".join(told.split())
    assert "alpha 0.3 (default)" in words
    assert "[a number from 0 to 1]" in words
    assert "conv_fusion true (default)" in words
    assert "prune technique prune: " in words
    assert "not in use: add space.prune" in words
    assert "not in use: name openvino under space.backend" in words


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("everything", [False, True])
def test_no_line_is_wider_than_the_terminal(spec, width, everything):
    lines = listed(spec, everything=everything, width=width).splitlines()
    assert len(lines) > 15
    assert max(len(line) for line in lines) <= width


def test_plain_data_tells_the_same(spec):
    found = {row["name"]: row for row in listing.plain(spec)}
    assert found["student.width"]["owner"] == "technique distill"
    assert found["student.width"]["state"] == "searched"
    assert "onnxruntime.level is" in found["onnxruntime.conv_fusion"]["where"]
    assert found["prune.ratio"]["state"] == "absent"
