"""From ONNX to a TensorRT engine, and the record by which it is known again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays, graphs, narrow, trt_integers, trt_layers, trt_library
from autotune.errors import StageError
from autotune.hardware import held
from autotune.plugins import version
from autotune.space import Settings
from autotune.training.network import SOURCE

ENGINE = "model.engine"
RECORD = "engine.json"
LAYERS = "layers.json"
CACHE = "timing.cache"
_MIB = 2**20


@dataclass(frozen=True)
class Built:
    """What an engine was built for; it runs nowhere else.

    Attributes:
        library: ``name==version`` of what built it.
        gpu: The GPU's name.
        capability: Its compute capability.
        batches: The fewest and the most samples in a request.
    """

    library: str
    gpu: str
    capability: str
    batches: tuple[int, int]

    def refuse(self, library: str, gpu: str, capability: str, batch: int) -> str | None:
        """Why the engine must not be loaded here; None if it may."""
        for what, mine, theirs in (
            ("library", self.library, library),
            ("GPU", self.gpu, gpu),
            ("compute capability", self.capability, capability),
        ):
            if mine != theirs:
                return f"the engine was built for another {what}: {mine}, this is {theirs}"
        if not self.batches[0] <= batch <= self.batches[1]:
            low, high = self.batches
            return f"the engine takes {low} to {high} samples in a request, not {batch}"
        return None


def stage(onnx: Stage, data: Stage, settings: Settings, floats: str) -> Stage:
    """The engine of ``onnx`` for the GPU that ``settings`` name.

    Args:
        onnx: The model; with pairs of QuantizeLinear and DequantizeLinear where it is INT8.
        data: Tells the shapes of a sample.
        settings: Hold the backend's knobs, the batch and the GPU (``gpu.name`` and so on).
        floats: The precision of what is not quantized.
    """
    most = int(settings.get("server.max_batch", settings["batch"]))
    least = 1 if "server.max_batch" in settings else most
    return Stage(
        name="engine",
        function="autotune.conversion.trt_build:run",
        kind="engine",
        parameters={
            "gpu": str(settings["gpu.name"]),
            "capability": str(settings["gpu.capability"]),
            "floats": floats,
            "tf32": bool(settings.get("tensorrt.tf32", False)),
            "level": int(settings["tensorrt.level"]),
            "workspace_mib": int(settings["tensorrt.workspace"]),
            "sparse": bool(settings.get("tensorrt.sparse", False)),
            "batches": [least, most],
        },
        inputs=(onnx, data),
        libraries=(version(trt_library.distribution()), version("onnx")),
        hints={"gpu": int(settings.get("gpu.index", 0))},
    )


def run(context: StageContext) -> Mapping[str, Any]:
    """Parse, build, and write the engine with its record, its layers and what was timed.

    Raises:
        StageError: A node that the parser does not know (named), a shape that does not fit, or an
            engine that cannot be built (out of device memory, no kernel).
    """
    asked = context.parameters
    model = graphs.load(context.inputs[0])
    heavy = [node.name for node in model.graph.node if node.op_type in trt_layers.HEAVY]
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        model = trt_integers.signed(model)
    if asked["floats"] in narrow.WORDS:
        model = narrow.floats(model, asked["floats"])
    samples = arrays.read(context.inputs[1], "test", limit=1)
    shapes = {name: tuple(array.shape[1:]) for name, array in samples.items()}
    with held(context.stage.hints):
        plan, cache, layers = _build(model.SerializeToString(), shapes, asked)
    (context.out / ENGINE).write_bytes(plan)
    (context.out / CACHE).write_bytes(cache)
    (context.out / LAYERS).write_text(json.dumps(trt_layers.record(layers)))
    low, high = asked["batches"]
    built = Built(_library(), asked["gpu"], asked["capability"], (low, high))
    inputs = {name: [str(array.dtype), *array.shape[1:]] for name, array in samples.items()}
    record = {**asdict(built), "heavy": heavy, "inputs": inputs}
    (context.out / RECORD).write_text(json.dumps(record))
    shutil.copy(context.inputs[0] / SOURCE, context.out / SOURCE)
    counts = trt_layers.kernels(layers, heavy)
    return {"bytes": len(plan), "kernels": counts, **trt_layers.fusions(layers)}


def read(artifact: Path) -> tuple[Built, list[str]]:
    """What the engine of an artifact was built for, and its heavy ONNX nodes."""
    told = json.loads((artifact / RECORD).read_text())
    heavy = told.pop("heavy")
    told.pop("inputs", None)
    return Built(**{**told, "batches": tuple(told["batches"])}), heavy


def inputs(artifact: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The type of each input of an artifact's engine, and the shape of a sample of it."""
    told = json.loads((artifact / RECORD).read_text()).get("inputs", {})
    return {name: (str(kind), tuple(shape)) for name, (kind, *shape) in told.items()}


def layers(artifact: Path) -> tuple[trt_layers.Layer, ...]:
    """The engine's layers, as the builder told them."""
    return trt_layers.from_record(json.loads((artifact / LAYERS).read_text()))


def _library() -> str:
    return version(trt_library.distribution())


def _build(
    model: bytes, shapes: Mapping[str, tuple[int, ...]], asked: Mapping[str, Any]
) -> tuple[bytes, bytes, tuple[trt_layers.Layer, ...]]:
    """The serialized engine, the timing cache, and the layers."""
    trt = trt_library.module()
    logger, said = trt_library.logger()
    said.lines.clear()
    builder = trt.Builder(logger)
    network = builder.create_network(trt_library.network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise StageError(_unparsed(parser))
    config = builder.create_builder_config()
    _configure(config, trt, asked)
    config.add_optimization_profile(_profile(builder, network, shapes, asked["batches"]))
    kept = _kept(asked)
    cache = config.create_timing_cache(kept.read_bytes() if kept.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise StageError(_unbuilt(said.errors(), asked))
    timed = bytes(config.get_timing_cache().serialize())
    _keep(kept, timed)
    return bytes(plan), timed, trt_layers.read(said.layers())


def _configure(config: Any, trt: Any, asked: Mapping[str, Any]) -> None:
    trt_library.aim(config, trt, asked["capability"])
    config.builder_optimization_level = asked["level"]
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, asked["workspace_mib"] * _MIB)
    for flag, on in (("TF32", asked["tf32"]), ("SPARSE_WEIGHTS", asked["sparse"])):
        change = config.set_flag if on else config.clear_flag
        change(getattr(trt.BuilderFlag, flag))


def _profile(
    builder: Any, network: Any, shapes: Mapping[str, tuple[int, ...]], batches: list[int]
) -> Any:
    """The shapes of every input: those of the data, at the fewest and the most samples.

    Raises:
        StageError: The data has no such input, or another shape than the model.
    """
    profile = builder.create_optimization_profile()
    least, most = batches
    for place in (network.get_input(index) for index in range(network.num_inputs)):
        if place.name not in shapes:
            raise StageError(f"the model's input '{place.name}' is not in the data")
        rest = shapes[place.name]
        fixed = tuple(place.shape)
        fits = len(fixed) == len(rest) + 1
        if not fits or any(a not in (-1, b) for a, b in zip(fixed[1:], rest, strict=True)):
            raise StageError(
                f"input '{place.name}' has shape {fixed} in the model, a sample has {rest}"
            )
        if fixed[0] not in (-1, least) or fixed[0] not in (-1, most):
            raise StageError(
                f"input '{place.name}' takes {fixed[0]} samples alone: export the model with a "
                "dynamic first axis"
            )
        if -1 in fixed:
            profile.set_shape(place.name, (least, *rest), (most, *rest), (most, *rest))
    return profile


def _unparsed(parser: Any) -> str:
    """What the parser stumbled over, the node first."""
    told = []
    for error in (parser.get_error(index) for index in range(parser.num_errors)):
        words = " ".join(str(error.desc()).split())[:200]
        node, operator = str(error.node_name()), str(error.node_operator())
        told.append(f"{operator} (node '{node}'): {words}" if operator else words)
    return f"TensorRT cannot read the model: {'; '.join(dict.fromkeys(told))}"[:600]


_MEMORY = ("out of memory", "OutOfMemory", "insufficient memory", "Requested amount of GPU memory")


def _unbuilt(words: str, asked: Mapping[str, Any]) -> str:
    if any(sign in words for sign in _MEMORY):
        return (
            f"the GPU's memory is too small for a batch of {asked['batches'][1]} with "
            f"{asked['workspace_mib']} MiB of workspace: {words}"
        )
    return f"TensorRT cannot build the engine: {words}"


def _kept(asked: Mapping[str, Any]) -> Path:
    """Where this machine keeps what was timed on such a GPU with this library."""
    about = json.dumps([_library(), asked["gpu"], asked["capability"]])
    name = hashlib.sha256(about.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"autotune-timing-{os.getuid()}" / f"{name}.cache"


def _keep(path: Path, cache: bytes) -> None:
    """Write by renaming, so that no other build reads half of it."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(cache)
    Path(file.name).replace(path)
