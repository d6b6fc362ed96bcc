"""The user's ONNX file: names of inputs, weights in files of their own, a fixed batch, no model."""

import shutil
from dataclasses import asdict

import onnx
import pytest
import torch
from torch import nn

from autotune.conversion import arrays
from autotune.engine import given, intake
from autotune.errors import TaskError
from autotune.store.artifacts import Store
from autotune.task import CodeRef, ModelSource

TOP1 = {"accuracy": {"plugin": "top1"}}


class Two(nn.Module):
    def forward(self, a, b):
        return (a + b).flatten(1)[:, :3]


def export(path, network=None, names=("x0",), *, fixed=False):
    torch.onnx.export(
        network or nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval(),
        (torch.ones(1 if fixed else 2, 1, 8, 8),) * len(names),
        str(path),
        input_names=list(names),
        dynamic_axes=None if fixed else {name: {0: "n"} for name in names},
        dynamo=False,
    )


@pytest.fixture
def path(tiny, tmp_path):
    shutil.copy(tiny / "task.py", tmp_path)
    return tmp_path / "model.onnx"


def taken(path):
    data = CodeRef(str(path.parent / "task.py"), "data")
    store = str(path.parent / "store")
    model = ModelSource(onnx=str(path))
    record = {"model": asdict(model), "data": asdict(data), "metrics": TOP1, "store": store}
    answer = intake._take_in(record)
    return Store(path.parent / "store"), given.source(model, answer["code"]), answer["data"]


def refused(path):
    with pytest.raises(TaskError) as caught:
        taken(path)
    assert caught.value.remedy
    return caught.value


def test_a_plain_array_is_the_only_input_whatever_its_name(path):
    export(path)
    store, _, fingerprint = taken(path)
    data = store.open(given.data(fingerprint).key)
    assert arrays.read(data, "test")["x0"].shape == (96, 1, 8, 8)
    assert list(arrays.read(data, "calibration")) == ["x0"]


def test_several_inputs_go_by_name(path):
    export(path, Two(), ("a", "b"))
    error = refused(path)
    assert "the data's inputs are input, the model's are a, b" in error.cause
    assert error.place == f"{path.parent / 'task.py'}:data"


def test_weights_in_a_file_beside_it(path):
    export(path)
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    store, source, _ = taken(path)
    artifact = store.open(source.key)
    (path.parent / "w.bin").rename(path.parent / "gone.bin")
    assert onnx.load(str(artifact / "model.onnx")).graph.initializer[0].raw_data
    (path.parent / "w.bin").write_bytes(bytes(len((path.parent / "gone.bin").read_bytes())))
    assert given.code(ModelSource(onnx=str(path))) != source.parameters["code"]


def test_a_fixed_batch_is_told(path):
    export(path, fixed=True)
    error = refused(path)
    assert "the batch of input 'x0' is fixed at 1" in error.cause
    assert "dynamic_axes" in error.remedy


@pytest.mark.parametrize("unknown", [False, True])
def test_a_file_that_is_no_model(path, unknown):
    if unknown:
        export(path)
        model = onnx.load(str(path))
        model.graph.node[0].op_type = "Flattened"
        onnx.save(model, str(path))
    else:
        path.write_text("not a model")
    error = refused(path)
    assert error.cause.startswith("ONNX Runtime cannot open it:")
    assert error.place == str(path)
    assert "inputs" not in error.remedy
