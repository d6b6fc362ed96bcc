"""TensorRT without a GPU: TensorRT-RTX builds real engines ahead of time, for GPUs named to it.

What runs an engine needs a GPU: tests/gpu.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autotune.artifact import Stage
from autotune.backends import tensorrt as backend
from autotune.contracts import StageContext
from autotune.conversion import arrays, graphs, narrow, qdq, trt_build, trt_integers, trt_layers
from autotune.conversion import trt_library as library
from autotune.engine.execute import _function
from autotune.errors import StageError
from autotune.target import Gpu, Machine, Target
from autotune.task import ModelSource
from autotune.training import network as networks

rtx = pytest.mark.skipif(library.installed() != library.RTX, reason="needs tensorrt-rtx")
ADA = Gpu(0, "NVIDIA L4", 24 * 2**30, "8.9", "580.10")
SETTINGS = {
    "precision": "fp32",
    "batch": 4,
    "gpu.index": 0,
    "gpu.name": ADA.name,
    "gpu.capability": ADA.capability,
    "tensorrt.level": 0,
    "tensorrt.workspace": 64,
    "tensorrt.tf32": False,
    "tensorrt.floats": "fp16",
    "ptq.samples": 32,
    "ptq.method": "minmax",
    "ptq.granularity": "channel",
    "ptq.scheme": "symmetric",
    "ptq.keep": 0,
}


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array, dtype=np.float32), name)


def graph(nodes, tensors, shape=("n", 3, 8, 8), out=("n", 5)):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, out)
    made = helper.make_graph(nodes, "g", [x], [y], tensors)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(made, opset_imports=opset, ir_version=8)


def small():
    """Convolution, ReLU, mean, fully connected."""
    rng = np.random.default_rng(0)
    tensors = [
        tensor("w", rng.normal(size=(16, 3, 3, 3))),
        tensor("b", rng.normal(size=16)),
        tensor("v", rng.normal(size=(16, 5))),
        tensor("c", rng.normal(size=5)),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("ReduceMean", ["r"], ["m"], "mean", axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["m", "v", "c"], ["y"], "head"),
    ]
    return graph(nodes, tensors)


def artifact(folder, model):
    folder.mkdir()
    onnx.save(model, str(folder / "model.onnx"))
    networks.write_source(ModelSource(onnx="model.onnx"), folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model and its data as artifacts."""
    folder = tmp_path_factory.mktemp("tensorrt")
    artifact(folder / "model", small())
    (folder / "data").mkdir()
    x = {"x": np.random.default_rng(1).normal(size=(64, 3, 8, 8)).astype(np.float32)}
    arrays.write(folder / "data", dict.fromkeys(("train", "calibration", "test"), (x, None)))
    return folder


def work(stage, inputs, out):
    out.mkdir(parents=True)
    return _function(stage.function)(StageContext(stage, tuple(inputs), out, out))


def build(place, out, model=None, **asked):
    """An engine's folder and facts, by the real stages of the backend."""
    settings = {**SETTINGS, **asked}
    stage = backend.stages(settings, Stage("model", "", "onnx"), Stage("data", "", "data"))
    source = model or place / "model"
    if stage.inputs[0].name == "quantize":
        work(stage.inputs[0], (source, place / "data"), out / "quantized")
        source = out / "quantized"
    return out / "engine", work(stage, (source, place / "data"), out / "engine")


@rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8"])
def test_the_engine_multiplies_in_the_precision_asked_for(precision, place, tmp_path):
    folder, facts = build(place, tmp_path, precision=precision)
    assert {k: n for k, n in facts["kernels"].items() if n} == {precision: 2}
    assert (folder / trt_build.ENGINE).stat().st_size == facts["bytes"] > 1000
    assert facts["fused_layers"] >= 1
    assert (folder / trt_build.CACHE).exists()
    built, heavy = trt_build.read(folder)
    assert (built.gpu, built.capability, built.batches) == ("NVIDIA L4", "8.9", (4, 4))
    assert trt_build.inputs(folder) == {"x": ("float32", (3, 8, 8))}
    assert heavy == ["conv", "head"]
    assert trt_layers.kernels(trt_build.layers(folder), heavy) == facts["kernels"]


@rtx
@pytest.mark.parametrize(("floats", "word"), [("fp32", "fp32"), ("bf16", "bf16")])
def test_what_is_kept_from_int8_is_of_the_floats_asked_for(floats, word, place, tmp_path):
    """With the head left out of quantization, it runs in the type of what is not quantized."""
    model = onnx.load(str(place / "model" / "model.onnx"))
    nodes = [n for n in model.graph.node if n.name != "conv"]
    scale, zero = tensor("s", 0.02), numpy_helper.from_array(np.uint8(128), "z")
    model.graph.initializer.extend([scale, zero])
    pair = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "d"),
        helper.make_node("QuantizeLinear", ["w", "s", "zw"], ["wq"], "wq"),
        helper.make_node("DequantizeLinear", ["wq", "s", "zw"], ["wd"], "wd"),
        helper.make_node("Conv", ["d", "wd", "b"], ["a"], "conv", pads=[1, 1, 1, 1]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zw"))
    graphs.keep(model.graph.node, [*pair, *nodes])
    stage = trt_build.stage(Stage("q", "", "onnx"), Stage("d", "", "data"), SETTINGS, floats)
    source = artifact(tmp_path / "model", model)
    facts = work(stage, (source, place / "data"), tmp_path / "engine")
    assert {k: n for k, n in facts["kernels"].items() if n} == {"int8": 1, word: 1}


@rtx
def test_a_servers_engine_takes_every_batch_up_to_its_largest(place, tmp_path):
    folder, _ = build(place, tmp_path, **{"server.max_batch": 8, "batch": 1})
    assert trt_build.read(folder)[0].batches == (1, 8)


@rtx
def test_an_operator_that_the_parser_does_not_know_is_named_with_its_node(place, tmp_path):
    node = helper.make_node("Wobble", ["x"], ["m"], "third_wobble", domain="mine")
    model = graph([node, helper.make_node("Flatten", ["m"], ["y"], "flat")], [])
    model.opset_import.append(helper.make_opsetid("mine", 1))
    with pytest.raises(StageError, match=r"Wobble \(node 'third_wobble'\)"):
        build(place, tmp_path, artifact(tmp_path / "model", model))


@rtx
def test_a_model_that_is_none_is_told_as_such(place, tmp_path):
    model = graph([helper.make_node("Relu", ["nothing"], ["y"], "relu")], [])
    with pytest.raises(StageError, match="TensorRT cannot read the model"):
        build(place, tmp_path, artifact(tmp_path / "model", model))


@rtx
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 8, 8), "takes 1 samples alone"),
        (("n", 3, 9, 8), "a sample has"),
        (("n", 3), "a sample has"),
    ],
)
def test_a_shape_that_does_not_fit_the_data_is_told(shape, message, place, tmp_path):
    model = graph([helper.make_node("Flatten", ["x"], ["y"], "flat")], [], shape, ("n", "m"))
    with pytest.raises(StageError, match=message):
        build(place, tmp_path, artifact(tmp_path / "model", model))


@rtx
def test_an_input_that_the_data_lacks_is_told(place, tmp_path):
    model = small()
    model.graph.input[0].name = model.graph.node[0].input[0] = "image"
    with pytest.raises(StageError, match="input 'image' is not in the data"):
        build(place, tmp_path, artifact(tmp_path / "model", model))


@rtx
def test_without_a_gpu_an_engine_is_not_loaded_and_the_reason_told(place, tmp_path):
    from autotune.hardware import gpus

    if gpus.accelerators().gpus:
        pytest.skip("there is a GPU here")
    folder, _ = build(place, tmp_path)
    settings = {**SETTINGS, "tensorrt.cuda_graph": True}
    message = "cannot use GPU 0: .*driver"
    with pytest.raises(StageError, match=message), backend.open(folder, settings, 4, 1):
        pass


@rtx
def test_the_table_of_gpus_that_rtx_builds_for_is_the_librarys_own():
    names = library.module().ComputeCapability.__members__
    theirs = {f"{n[2:-1]}.{n[-1]}" for n in names if n.startswith("SM")}
    assert theirs == set(library.RTX_CAPABILITIES)


def key(**asked):
    stage = backend.stages(
        {**SETTINGS, **asked}, Stage("model", "", "onnx"), Stage("data", "", "data")
    )
    return stage.key


@pytest.mark.parametrize(
    "asked",
    [
        {"gpu.name": "NVIDIA L40S"},
        {"gpu.capability": "8.6"},
        {"batch": 8},
        {"precision": "fp16"},
        {"precision": "int8"},
        {"precision": "fp8"},
        {"tensorrt.tf32": True},
        {"tensorrt.level": 5},
        {"tensorrt.workspace": 128},
        {"server.max_batch": 4},
    ],
)
def test_what_shapes_the_engine_is_in_its_key(asked):
    assert key(**asked) != key()


@pytest.mark.parametrize("asked", [{"gpu.index": 1}, {"tensorrt.cuda_graph": False}])
def test_what_does_not_is_not(asked):
    assert key(**asked) == key()


def test_the_librarys_version_is_in_the_key(monkeypatch):
    before = key()
    monkeypatch.setattr(trt_build, "version", lambda name: f"{name}==0.0")
    assert key() != before


BUILT = trt_build.Built("tensorrt==10.9", "NVIDIA L4", "8.9", (1, 8))


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (("tensorrt==10.10", "NVIDIA L4", "8.9", 8), "another library: tensorrt==10.9, this is"),
        (("tensorrt==10.9", "NVIDIA A10", "8.6", 8), "another GPU: NVIDIA L4, this is NVIDIA A10"),
        (("tensorrt==10.9", "NVIDIA L4", "9.0", 8), "another compute capability"),
        (("tensorrt==10.9", "NVIDIA L4", "8.9", 9), "takes 1 to 8 samples in a request, not 9"),
    ],
)
def test_an_engine_of_elsewhere_is_refused(here, words):
    assert words in BUILT.refuse(*here)
    assert BUILT.refuse("tensorrt==10.9", "NVIDIA L4", "8.9", 8) is None


# ---- the model in the types that TensorRT reads --------------------------------------------------


def run(model, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def test_sixteen_bits_compute_the_same_and_keep_the_outside_as_it_was(place):
    x = np.random.default_rng(2).normal(size=(4, 3, 8, 8)).astype(np.float32)
    model = graphs.load(place / "model")
    wanted = run(model, x)
    half = narrow.floats(model, "fp16")
    types = {t.data_type for t in half.graph.initializer}
    assert types == {TensorProto.FLOAT16}
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    np.testing.assert_allclose(run(half, x), wanted, rtol=2e-2, atol=2e-2)


def test_infinite_masks_become_the_largest_number_there_is():
    nodes = [helper.make_node("Add", ["x", "mask"], ["y"], "add")]
    model = graph(nodes, [tensor("mask", [-np.inf, 1e5, 1.0])], ("n", 3), ("n", 3))
    made = narrow.floats(model, "fp16").graph.initializer[0]
    assert list(numpy_helper.to_array(made)) == [-65504.0, 65504.0, 1.0]


def test_scales_of_a_resize_stay_wide_also_where_another_reads_them():
    nodes = [
        helper.make_node("Resize", ["x", "", "four"], ["r"], "resize"),
        helper.make_node("Mul", ["r", "four"], ["y"], "mul"),
    ]
    model = graph(nodes, [tensor("four", [1, 1, 2, 2])], ("n", 3, 8, 2), ("n", 3, 16, 4))
    made = narrow.floats(model, "bf16").graph
    kinds = {t.name: t.data_type for t in made.initializer}
    resize, mul = (next(n for n in made.node if n.name == name) for name in ("resize", "mul"))
    assert kinds[resize.input[2]] == TensorProto.FLOAT
    assert kinds[mul.input[1]] == TensorProto.BFLOAT16


def test_signed_pairs_compute_what_the_unsigned_ones_did(place, tmp_path):
    stage = qdq.stage(Stage("m", "", "onnx"), Stage("d", "", "data"), SETTINGS, "products")
    work(stage, (place / "model", place / "data"), tmp_path / "quantized")
    x = np.random.default_rng(3).normal(size=(8, 3, 8, 8)).astype(np.float32)
    wanted = run(graphs.load(tmp_path / "quantized"), x)
    made = trt_integers.signed(graphs.load(tmp_path / "quantized"))
    kinds = {t.data_type for t in made.graph.initializer}
    assert kinds == {TensorProto.FLOAT, TensorProto.INT8}
    step = np.ptp(wanted) / 255
    np.testing.assert_allclose(run(made, x), wanted, atol=2 * step)


def test_a_zero_beside_the_middle_is_refused_with_the_remedy(place, tmp_path):
    settings = {**SETTINGS, "ptq.scheme": "mixed"}
    stage = qdq.stage(Stage("m", "", "onnx"), Stage("d", "", "data"), settings, "products")
    work(stage, (place / "model", place / "data"), tmp_path / "quantized")
    with pytest.raises(StageError, match=r"let ptq\.scheme be symmetric"):
        trt_integers.signed(graphs.load(tmp_path / "quantized"))


# ---- the words of the inspector -----------------------------------------------------------------

TOLD = """Layers:
Name: move, LayerType: kgen, Inputs: [ { Name: x, Datatype: Float, Format: (Linear) }], Constants: \
[], Outputs: [ { Name: q, Datatype: Int8 }], TacticName: , StreamId: 0, Metadata: [ONNX Layer: conv]
Name: conv_1, LayerType: correlation, Inputs: [ { Name: q, Datatype: Int8 }], Constants: [ { Name: \
w, Datatype: Float }], Outputs: [ { Name: a, Datatype: Float }], TacticName: t, StreamId: 0, \
Metadata: [ONNX Layer: conv][ONNX Layer: relu]
Name: old, LayerType: CaskGemm, Inputs: [ { Name: a, Format/Datatype: Row major linear FP16 format \
}], Outputs: [ { Name: y, Format/Datatype: Half }], TacticName: t, Metadata: [ONNX Layer: head]
I/O Tensors:
 Name: x, IOMode: Input
"""


def test_a_nodes_precision_is_that_of_the_kernel_that_multiplies():
    layers = trt_layers.read(TOLD)
    assert [layer.precision for layer in layers] == ["fp32", "int8", "fp16"]
    assert trt_layers.kernels(layers, ["conv", "head"]) == {"fp32": 0, "int8": 1, "fp16": 1}
    assert trt_layers.fusions(layers) == {"engine_layers": 3, "onnx_nodes": 3, "fused_layers": 1}
    assert trt_layers.from_record(json.loads(json.dumps(trt_layers.record(layers)))) == layers


# ---- what runs where ----------------------------------------------------------------------------


def reason(gpu, monkeypatch=None, **asked):
    target = Target("here", 1, 1, None, Machine("cpu", (), (0,), 2**30), gpu)
    found = backend.reject({**SETTINGS, **asked}, target, ModelSource(onnx="m"))
    return found.reason if found else None


def test_a_target_without_a_gpu_is_refused_with_the_word_that_gives_one():
    assert "gpu: 0" in reason(None)
    assert reason(ADA) is None


def test_what_a_gpu_has_not_is_refused(monkeypatch):
    turing = replace(ADA, name="NVIDIA T4", capability="7.5")
    assert "has no bf16" in reason(turing, precision="bf16")
    assert "has no fp8" in reason(replace(turing, capability="8.6"), precision="fp8")
    assert reason(ADA, precision="fp8") is None
    assert "has no tf32" in reason(turing, **{"tensorrt.tf32": True})
    assert "has no bf16" in reason(turing, precision="int8", **{"tensorrt.floats": "bf16"})
    assert reason(turing, precision="fp16", **{"tensorrt.floats": "fp16"}) is None
    assert "7.5" in reason(replace(ADA, capability="7.0"))
    hopper = replace(ADA, name="NVIDIA H100", capability="9.0")
    monkeypatch.setattr(library, "installed", lambda: library.RTX)
    assert "install tensorrt" in reason(hopper)
    monkeypatch.setattr(library, "installed", lambda: library.FULL)
    assert reason(hopper) is None


def test_what_tensorrt_cannot_is_refused():
    assert "symmetric" in reason(ADA, precision="int8", **{"ptq.scheme": "mixed"})
    assert reason(ADA, precision="int8_dynamic")
    assert "2:4" in reason(ADA, **{"tensorrt.sparse": True})
    assert reason(ADA, **{"tensorrt.sparse": True, "prune.structure": "2:4"}) is None


def test_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    assert "pip install 'autotune[gpu]'" in library.missing()
    monkeypatch.setattr(library, "find_spec", lambda name: name == "tensorrt" or None)
    assert "cuda-bindings is not installed" in library.missing()
    monkeypatch.setattr(backend.gpus, "DRIVER", (Path("/nowhere"),))
    assert "no NVIDIA driver" in backend.unavailable()
