"""Stage functions that make networks and reference outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autotune import plugins
from autotune.contracts import StageContext, TechniqueContext
from autotune.conversion import arrays, export
from autotune.engine import onnxfile

OUTPUTS = "outputs.npy"
CHECKED = 64
"""How many test samples a conversion is compared on."""


def given(context: StageContext) -> Mapping[str, Any]:
    """The model as given, as an artifact."""
    from autotune.task import CodeRef, ModelSource
    from autotune.training import network as networks

    record = dict(context.parameters["model"])
    factory = record.pop("factory")
    model = ModelSource(factory=CodeRef(**factory) if factory else None, **record)
    if model.onnx is not None:
        return _onnx(Path(model.onnx), context, model)
    network = networks.given(model)
    networks.save(network, model.args, networks.stamped(model), context.out)
    return {"parameters": sum(p.numel() for p in network.parameters())}


def _onnx(path: Path, context: StageContext, model: Any) -> Mapping[str, Any]:
    from autotune.training import network as networks

    onnxfile.copy(path, context.out)
    networks.write_source(model, context.out)
    return {"bytes": (context.out / export.FILE).stat().st_size}


def technique(context: StageContext) -> Mapping[str, Any]:
    """One technique applied to the network that comes in."""
    import torch

    from autotune.training import network as networks

    torch.set_num_threads(1)
    plugin = plugins.load("techniques", context.parameters["technique"])
    network, args, model = networks.load(context.inputs[0])
    rest = list(context.inputs[1:])
    data = rest.pop(0) if plugin.needs_data else None
    teacher = np.load(rest.pop(0) / OUTPUTS) if rest else None
    change = plugin.structure if context.parameters.get("untrained") else plugin.apply
    changed, args = change(
        network,
        context.parameters["settings"],
        TechniqueContext(
            build=lambda **chosen: networks.build(model, chosen),
            args=args,
            train_x=arrays.read(data, "train") if data else {},
            train_y=arrays.labels(data, "train") if data else None,
            teacher_logits=teacher,
            output=model.output,
            seed=context.parameters["seed"],
            checkpoint=context.scratch / "training.pt",
        ),
    )
    networks.save(changed, args, model, context.out)
    return {"parameters": sum(p.numel() for p in changed.parameters())}


def logits(context: StageContext) -> Mapping[str, Any]:
    """The given model's outputs over the training data."""
    return _outputs(context, arrays.read(context.inputs[1], "train"))


def reference(context: StageContext) -> Mapping[str, Any]:
    """The network's outputs over the first test samples, before any conversion."""
    return _outputs(context, arrays.read(context.inputs[1], "test", limit=CHECKED))


def _outputs(context: StageContext, x: Mapping[str, arrays.Array]) -> Mapping[str, Any]:
    from autotune.training import network as networks

    if (context.inputs[0] / export.FILE).exists():
        outputs = run_onnx(context.inputs[0], x)
    else:
        network, _, model = networks.load(context.inputs[0])
        outputs = networks.predict(network, x, model.output)
    np.save(context.out / OUTPUTS, outputs)
    return {"shape": list(outputs.shape)}


def run_onnx(artifact: Path, x: Mapping[str, arrays.Array]) -> Any:
    """The prediction of an ONNX artifact by ONNX Runtime's defaults."""
    import onnxruntime as ort

    from autotune.training.network import read_source

    session = ort.InferenceSession(str(artifact / export.FILE), providers=["CPUExecutionProvider"])
    output = read_source(artifact).output
    name = session.get_outputs()[output].name if isinstance(output, int) else output
    return session.run([name], dict(x))[0]
