"""A profile is taken once, in a process of its own; what goes wrong is told."""

import dataclasses
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autotune.backends import torch as backend
from autotune.engine import lane, profiling, profiling_onnx
from autotune.errors import MachineError, RunFolderError, StageError, TaskError, UserError
from autotune.store.artifacts import Store
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import network as networks

SETTINGS = {"precision": "fp32", "torch.channels_last": False, "torch.freeze": False}


@pytest.fixture(scope="module")
def work(tiny_taken):
    _, subject, _ = tiny_taken
    return profiling.Work("torch", SETTINGS, 4, 1, subject.source.key, subject.data.key)


def test_a_profile_is_taken_once_and_adds_up(tiny_taken, work, target, monkeypatch):
    store, *_ = tiny_taken
    profile = profiling.take(work, target, store)
    assert 0 < profile.total_ms <= profile.wall_ms
    assert profile.bare_ms > 0
    assert profile.waited is None or profile.waited >= 0
    assert any(row.operator.startswith("aten::") for row in profile.rows)
    monkeypatch.setattr(lane, "ask", None)
    assert profiling.take(work, target, store) == profile


def test_its_key_holds_what_it_hangs_on(work, target):
    key = profiling.stage(work, target).key
    assert profiling.stage(work, dataclasses.replace(target, price_per_hour=9.0)).key == key
    other = dataclasses.replace(target.machine, cpu="another")
    machines = profiling.stage(work, dataclasses.replace(target, machine=other)).key
    changes = {"batch": 8, "threads": 2, "artifact": "x" * 32, "data": "y" * 32}
    keys = {
        profiling.stage(dataclasses.replace(work, **{k: v}), target).key for k, v in changes.items()
    }
    assert len({key, machines, *keys}) == 2 + len(changes)


def test_an_artifact_that_left_the_store_is_told(work, target, tmp_path):
    with pytest.raises(RunFolderError, match=rf"{work.artifact[:8]} is no longer in the store"):
        profiling.take(work, target, Store(tmp_path))


def test_a_backend_without_a_profiler_is_told(tiny_taken, work, target, monkeypatch):
    monkeypatch.delattr(backend, "profile")
    again = dataclasses.replace(work, batch=5)
    with pytest.raises(UserError, match="'torch' has no profiler"):
        profiling.take(again, target, tiny_taken[0])


def test_a_model_that_ends_its_process_is_told_and_nothing_is_kept(
    work, target, tmp_path, tiny_taken
):
    body = "import os\nfrom torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n"
    (tmp_path / "nets.py").write_text(
        f"{body}        os._exit(7)\ndef build():\n    return Net()\n"
    )
    model = ModelSource(CodeRef(str(tmp_path / "nets.py"), "build"))
    store, key = Store(tmp_path / "store"), "f" * 32
    with store.writing(key) as out:
        networks.save(networks.given(model), Blueprint(), model, out)
        store.commit(key, out, stage="model", seconds=0.0, facts={})
    store.unpack(work.data, tiny_taken[0].pack(work.data))
    broken = dataclasses.replace(work, artifact=key)
    with pytest.raises(StageError, match="ended with exit code 7"):
        profiling.take(broken, target, store)
    assert not store.has(profiling.stage(broken, target).key)


# ---- an ONNX file --------------------------------------------------------------------------------


def model(path, kind=TensorProto.FLOAT, shape=("batch", "places", 4)):
    """A product and a sum: x (batch, places, 4) -> (batch, places, 3); ``n`` is added as it is."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
        helper.make_node("Cast", ["n"], ["f"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Add", ["y", "f"], ["z"], name="sum"),
    ]
    weights = np.ones((4, 3), dtype=np.float32)
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info("x", kind, shape),
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
        ],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, (*shape[:2], 3))],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel())],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))
    return path


def test_an_onnx_file_is_profiled_on_inputs_of_its_shapes(tmp_path):
    path = model(tmp_path / "net.onnx")
    profile, inputs = profiling_onnx.profile(path, 2, 1, {"places": 5})
    assert inputs == ("x float32 2x5x4", "n int64 scalar")
    told = {row.operator: (row.precision, row.calls) for row in profile.operators()}
    assert told["MatMul"] == ("fp32", 1)
    assert profile.bare_ms > 0


def test_axes_that_nothing_is_said_of_are_one_and_a_fixed_batch_stays(tmp_path):
    path = model(tmp_path / "net.onnx", shape=(3, "places", 4))
    _, inputs = profiling_onnx.profile(path, 8, 1, {})
    assert inputs[0] == "x float32 3x1x4"


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        (TensorProto.STRING, ("batch", 2, 4), "'x' is a tensor(string)"),
        (TensorProto.FLOAT, ("batch", 2, "width"), "x float32 1x2x1; n int64 scalar"),
    ],
)
def test_an_onnx_file_that_cannot_be_profiled_is_told(tmp_path, kind, shape, words):
    path = model(tmp_path / "net.onnx", kind=kind, shape=shape)
    if kind == TensorProto.STRING:  # a product of texts would not even open
        graph = onnx.load(str(path))
        graph.graph.node[0].CopyFrom(helper.make_node("Identity", ["x"], ["y"]))
        del graph.graph.node[1:]
        graph.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", kind, shape))
        onnx.save(graph, str(path))
    with pytest.raises(TaskError, match=re.escape(words)):
        profiling_onnx.profile(path, 1, 1, {})


def test_a_file_that_is_no_model_and_a_machine_that_is_too_small(tmp_path):
    (tmp_path / "net.onnx").write_text("nothing")
    with pytest.raises(TaskError, match="ONNX Runtime cannot open it"):
        profiling_onnx.profile(tmp_path / "net.onnx", 1, 1, {})
    with pytest.raises(MachineError, match="asks for 4096 cores"):
        profiling_onnx.profile(model(tmp_path / "good.onnx"), 1, 4096, {})
