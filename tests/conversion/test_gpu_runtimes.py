"""ONNX Runtime's and PyTorch's ways to a GPU, as far as a machine without one can tell."""

import re
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from autotune.artifact import Stage
from autotune.backends import onnxruntime as ort_backend
from autotune.backends import torch as torch_backend
from autotune.contracts import StageContext
from autotune.conversion import cuda, onnxruntime_cuda, torch_cuda
from autotune.errors import StageError
from autotune.hardware import gpus
from autotune.target import Gpu, Machine, Target
from autotune.task import CodeRef, ModelSource
from autotune.training import network as networks

ADA = Gpu(0, "NVIDIA L4", 24 * 2**30, "8.9", "580.10")
TURING = Gpu(0, "NVIDIA T4", 16 * 2**30, "7.5", "580.10")
ORT = {
    "precision": "fp32",
    "gpu.index": 1,
    "onnxruntime.level": "all",
    "onnxruntime.provider": "cuda",
    "onnxruntime.io_binding": True,
}
TORCH = {"precision": "fp32", "gpu.index": 0, "torch.channels_last": False}
blind = pytest.mark.skipif(bool(gpus.accelerators().gpus), reason="there is a GPU here")


def product():
    """y = x @ w, with a name for the first axis."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 4))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 3))
    w = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def artifact(tmp_path):
    (tmp_path / "model").mkdir()
    onnx.save(product(), str(tmp_path / "model" / "model.onnx"))
    networks.write_source(ModelSource(onnx="model.onnx"), tmp_path / "model")
    return tmp_path / "model"


def reason(backend, settings, gpu=ADA):
    target = Target("here", 1, 1, None, Machine("cpu", (), (0,), 2**30), gpu)
    found = backend.reject(settings, target, ModelSource(CodeRef("task.py", "build")))
    return found.reason if found else None


# ---- ONNX Runtime --------------------------------------------------------------------------------


def test_the_cuda_provider_gets_its_options_and_the_cpu_comes_last():
    asked = {"onnxruntime.conv_search": "heuristic", "onnxruntime.arena": "as_requested"}
    (name, options), last = onnxruntime_cuda.providers({**ORT, **asked})
    assert (name, last) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options == {
        "device_id": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
        "enable_cuda_graph": "0",
    }


def test_tensorrt_goes_before_cuda_and_takes_the_graph():
    asked = {"onnxruntime.provider": "tensorrt", "onnxruntime.cuda_graph": True}
    first, second, _ = onnxruntime_cuda.providers({**ORT, **asked})
    assert first == (
        "TensorrtExecutionProvider",
        {"device_id": "1", "trt_cuda_graph_enable": "1"},
    )
    assert "enable_cuda_graph" not in second[1]


@blind
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_is_not_there_is_told_and_not_silently_replaced(artifact):
    message = "could not load CUDAExecutionProvider; it has .*onnxruntime-gpu"
    with pytest.raises(StageError, match=message), ort_backend.open(artifact, ORT, 2, 1):
        pass


def test_bound_inputs_and_outputs_give_what_a_plain_run_gives(artifact):
    """With the places in the host's memory, which a session without a GPU takes too."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(artifact / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    batches = [{"x": rng.normal(size=(2, 4)).astype(np.float32)} for _ in range(3)]
    bound = onnxruntime_cuda.Bound(session, "y", 0, batches[0], device="cpu")
    kept = [batch["x"].copy() for batch in batches]
    answers = [bound.run(batch) for batch in batches]
    assert all(np.array_equal(b["x"], k) for b, k in zip(batches, kept, strict=True))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer, session.run(["y"], batch)[0], rtol=1e-6)


def test_fp16_is_a_stage_of_its_own_and_fp32_none(artifact, tmp_path):
    model = Stage("model", "", "onnx")
    assert onnxruntime_cuda.stage(model, ORT) is model
    stage = ort_backend.stages({**ORT, "precision": "fp16"}, model, Stage("data", "", "data"))
    (tmp_path / "out").mkdir()
    onnxruntime_cuda.run(StageContext(stage, (artifact,), tmp_path / "out", tmp_path))
    made = onnx.load(str(tmp_path / "out" / "model.onnx"))
    assert made.graph.initializer[0].data_type == TensorProto.FLOAT16


def test_without_the_gpu_build_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr(onnxruntime_cuda, "_installed", lambda name: name == "onnxruntime")
    assert onnxruntime_cuda.INSTALL in reason(ort_backend, ORT)
    assert ort_backend.unavailable() is None


def test_both_builds_at_once_are_found_out(monkeypatch):
    monkeypatch.setattr(onnxruntime_cuda, "_installed", lambda name: True)
    assert "overwrite each other" in ort_backend.unavailable()
    assert reason(ort_backend, ORT) is None
    assert reason(ort_backend, {**ORT, "precision": "fp16"}) is None
    inside = {**ORT, "precision": "fp16", "onnxruntime.provider": "tensorrt"}
    assert "the backend tensorrt" in reason(ort_backend, inside)
    assert "compute in floating point" in reason(ort_backend, {**ORT, "precision": "int8"})
    assert "compute in" in reason(ort_backend, {**inside, "precision": "int8"})
    assert "has no tf32" in reason(ort_backend, {**ORT, "onnxruntime.tf32": True}, TURING)


@pytest.mark.parametrize(
    ("precision", "words"),
    [
        ("bf16", "bf16"),
        ("int8", "int8"),
        ("fp8", "fp8"),
        ("int8_dynamic", "at run time"),
        ("int8_weights", "8.bit"),
        ("int4_weights", "4.bit"),
    ],
)
def test_what_either_runtime_has_not_is_refused_with_a_reason_of_its_own(
    precision, words, monkeypatch
):
    monkeypatch.setattr(onnxruntime_cuda, "_installed", lambda name: name == "onnxruntime-gpu")
    monkeypatch.setattr(torch_cuda, "version", lambda name: "2.13.0")
    assert re.search(words, reason(ort_backend, {**ORT, "precision": precision}))
    if precision != "bf16":
        assert re.search(words, reason(torch_backend, {**TORCH, "precision": precision}))


# ---- PyTorch -------------------------------------------------------------------------------------


def test_a_torch_without_cuda_is_told(monkeypatch):
    monkeypatch.setattr(torch_cuda, "version", lambda name: "2.13.0+cpu")
    assert "without CUDA" in reason(torch_backend, TORCH)


def test_what_pytorch_cannot_on_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch_cuda, "version", lambda name: "2.13.0")
    assert reason(torch_backend, TORCH) is None
    assert reason(torch_backend, {**TORCH, "precision": "bf16"}) is None
    assert "has no bf16" in reason(torch_backend, {**TORCH, "precision": "bf16"}, TURING)
    assert "has no tf32" in reason(torch_backend, {**TORCH, "torch.tf32": True}, TURING)
    assert "torch.compile" in reason(torch_backend, {**TORCH, "torch.freeze": True})
    sparse = {**TORCH, "precision": "fp16", "torch.cast": "network", "torch.sparse": True}
    assert "prune.structure: 2:4" in reason(torch_backend, sparse)
    assert reason(torch_backend, {**sparse, "prune.structure": "2:4"}) is None
    assert "has no 2:4" in reason(torch_backend, {**sparse, "prune.structure": "2:4"}, TURING)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_network_that_cannot_be_put_on_a_gpu_says_so():
    with pytest.raises(StageError, match=r"the GPU cannot load the network: .*(CUDA|NVIDIA)"):
        torch_cuda.Session(nn.Linear(2, 2), TORCH, 1, 0)


# ---- CUDA's runtime ------------------------------------------------------------------------------


@blind
def test_the_runtime_says_that_there_is_no_driver():
    pytest.importorskip("cuda.bindings")
    with pytest.raises(StageError, match=r"cannot use GPU 0: .*(nvidia-smi|no NVIDIA driver here)"):
        cuda.Stream(0)


def test_without_the_bindings_the_extra_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(StageError, match=r"pip install 'autotune\[gpu\]'"):
        cuda.Stream(0)
