"""Export and quantization as stages: what they make, and how they refuse."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays, export, qdq
from autotune.errors import StageError
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import network as networks

MODEL = Stage("model", "", "network")
DATA = Stage("data", "", "data")


@pytest.fixture
def place(tiny_taken, tmp_path):
    """The folders of the tiny task's network and data, and one to write to."""
    store, subject, _ = tiny_taken
    return store.open(subject.source.key), store.open(subject.data.key), tmp_path


def made(stage, inputs, folder):
    out, scratch = folder / stage.name, folder / f"{stage.name}-scratch"
    out.mkdir()
    scratch.mkdir()
    module = {"export": export, "quantize": qdq}[stage.name]
    return out, module.run(StageContext(stage, inputs, out, scratch))


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, x)[0]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_an_export_computes_the_same_at_every_batch(place, batch):
    network, data, folder = place
    out, facts = made(export.stage(MODEL, DATA), (network, data), folder)
    x = arrays.read(data, "test", limit=batch)
    expected = networks.predict(networks.load(network)[0], x, 0)
    np.testing.assert_allclose(run(out / export.FILE, x), expected, rtol=1e-4, atol=1e-5)
    assert facts["bytes"] == (out / export.FILE).stat().st_size
    assert networks.read_source(out) == networks.read_source(network)
    assert export.prediction(out) == 0


def test_an_onnx_model_is_its_own_export():
    model = Stage("model", "", "onnx")
    assert export.stage(model, DATA) is model


def test_what_the_exporter_cannot_write_is_the_trials_reason(place):
    _, data, folder = place
    (folder / "nets.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x): return torch.linalg.eigvals(x[:, 0]).real\n"
        "def build(): return Net()\n"
    )
    model = ModelSource(CodeRef(str(folder / "nets.py"), "build"))
    (folder / "odd").mkdir()
    networks.save(networks.build(model, Blueprint()), Blueprint(), model, folder / "odd")
    with pytest.raises(StageError, match=r"the ONNX exporter failed: .*eig"):
        made(export.stage(MODEL, DATA), (folder / "odd", data), folder)


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
@pytest.mark.parametrize("samples", [1, 16, 31])
def test_a_quantized_model_holds_8_bit_weights_and_is_near(place, method, samples):
    network, data, folder = place
    exported, _ = made(export.stage(MODEL, DATA), (network, data), folder)
    asked = {"ptq.samples": samples, "ptq.method": method}
    wanted = qdq.stage(Stage("export", "", "onnx"), DATA, asked)
    out, facts = made(wanted, (exported, data), folder)
    assert facts["samples"] == samples
    assert sorted(p.name for p in out.iterdir()) == ["model.onnx", "source.json"]
    graph = onnx.load(str(out / export.FILE)).graph
    kinds = {node.op_type for node in graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    signed = [w for w in graph.initializer if w.data_type == onnx.TensorProto.INT8 and w.dims]
    assert len([w for w in signed if len(w.dims) >= 2]) == 3
    if samples == 16:
        x = arrays.read(data, "test")
        before, after = run(exported / export.FILE, x), run(out / export.FILE, x)
        assert (before.argmax(1) == after.argmax(1)).mean() > 0.9


def test_more_calibration_samples_than_there_are_is_said(place):
    _, data, _ = place
    assert len(qdq.calibration(data, 32)["input"]) == 32
    with pytest.raises(StageError, match="33 calibration samples asked for, the data has 32"):
        qdq.calibration(data, 33)


def test_without_a_calibration_part_there_are_none(tmp_path):
    arrays.write(tmp_path, {"test": ({"input": np.zeros((2, 3))}, None)})
    with pytest.raises(StageError, match="8 calibration samples asked for, the data has 0"):
        qdq.calibration(tmp_path, 8)


def test_the_chosen_output_of_an_onnx_model_is_kept(tmp_path):
    networks.write_source(ModelSource(onnx="model.onnx", output="logits"), tmp_path)
    assert export.prediction(tmp_path) == "logits"
    assert json.loads((tmp_path / "source.json").read_text())["onnx"] == "model.onnx"
