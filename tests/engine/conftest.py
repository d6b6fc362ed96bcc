"""The tiny task's model as ONNX, for what runs a backend."""

import pytest

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import export


@pytest.fixture(scope="session")
def tiny_onnx(tiny_taken, tmp_path_factory):
    """The artifact that the export of the tiny model makes."""
    store, subject, _ = tiny_taken
    inputs = (store.open(subject.source.key), store.open(subject.data.key))
    out = tmp_path_factory.mktemp("onnx")
    stage = Stage("export", "", "onnx", {"opset": export.OPSET})
    export.run(StageContext(stage, inputs, out, out))
    return out
