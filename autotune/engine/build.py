"""Stage functions that make networks and reference outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autotune import plugins
from autotune.contracts import StageContext, TechniqueContext
from autotune.conversion import arrays, export, graphs, onnx_size
from autotune.engine import onnxfile, progress
from autotune.task import Blueprint, ModelSource
from autotune.training import usercode

OUTPUTS = "outputs.npy"
FEATURES = "features.npy"
SIZE = "size.json"
CHECKED = 64
"""How many test samples a conversion is compared on."""


def given(context: StageContext) -> Mapping[str, Any]:
    """The model as given, as an artifact."""
    from autotune.training import network as networks

    model = ModelSource.from_record(context.parameters["model"])
    if model.onnx is not None:
        return _onnx(Path(model.onnx), context, model)
    network = networks.given(model)
    networks.save(network, Blueprint(model.args), networks.stamped(model), context.out)
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
    network, blueprint, model = networks.load(context.inputs[0])
    rest = list(context.inputs[1:])
    data = rest.pop(0) if plugin.needs_data else None
    teacher = rest.pop(0) if plugin.needs_teacher and rest else None
    change = plugin.structure if context.parameters.get("untrained") else plugin.apply
    changed, blueprint = change(
        network,
        context.parameters["settings"],
        TechniqueContext(
            build=lambda blueprint: networks.build(model, blueprint),
            blueprint=blueprint,
            train_x=arrays.read(data, "train") if data else {},
            train_y=arrays.labels(data, "train") if data else None,
            teacher_logits=np.load(teacher / OUTPUTS) if teacher else None,
            teacher_features=_features(teacher) if teacher else None,
            output=model.output,
            seed=context.parameters["seed"],
            checkpoint=context.scratch / "training.pt",
            report=progress.teller(context.scratch),
            train=usercode.load(model.train) if model.train else None,
        ),
    )
    networks.save(changed, blueprint, model, context.out)
    return {"parameters": sum(p.numel() for p in changed.parameters())}


def _features(teacher: Path) -> Any:
    path = teacher / FEATURES
    return np.load(path) if path.exists() else None


def logits(context: StageContext) -> Mapping[str, Any]:
    """The given model's outputs over the training data, and what its last linear layer read."""
    from autotune.training import features
    from autotune.training import network as networks

    network, _, model = networks.load(context.inputs[0])
    x = arrays.read(context.inputs[1], "train")
    with features.recorded(network) as read:
        outputs = networks.predict(network, x, model.output)
    np.save(context.out / OUTPUTS, outputs)
    found = read(len(outputs))
    if found is not None:
        np.save(context.out / FEATURES, found)
    return {"shape": list(outputs.shape), "features": None if found is None else found.shape[1]}


def reference(context: StageContext) -> Mapping[str, Any]:
    """The network's outputs over the first test samples, before any conversion; and its size."""
    from autotune.training import network as networks
    from autotune.training import size

    x = arrays.read(context.inputs[1], "test", limit=CHECKED)
    if (context.inputs[0] / export.FILE).exists():
        outputs = run_onnx(context.inputs[0], x)
        sample = {name: array[:1] for name, array in x.items()}
        facts = dict(onnx_size.of(graphs.load(context.inputs[0]), sample))
    else:
        network, _, model = networks.load(context.inputs[0])
        outputs = networks.predict(network, x, model.output)
        facts = dict(size.of(network, x))
    np.save(context.out / OUTPUTS, outputs)
    (context.out / SIZE).write_text(json.dumps(facts))
    return {"shape": list(outputs.shape), **facts}


def run_onnx(artifact: Path, x: Mapping[str, arrays.Array]) -> Any:
    """The prediction of an ONNX artifact by ONNX Runtime's defaults."""
    import onnxruntime as ort

    from autotune.training.network import read_source

    session = ort.InferenceSession(str(artifact / export.FILE), providers=["CPUExecutionProvider"])
    output = read_source(artifact).output
    name = session.get_outputs()[output].name if isinstance(output, int) else output
    return session.run([name], dict(x))[0]
