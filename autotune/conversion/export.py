"""From a torch network to ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays, unsupported
from autotune.errors import StageError
from autotune.plugins import version

FILE = "model.onnx"
BATCH = "batch"
OUTPUT = "output"
OPSET = 17


def stage(model: Stage, data: Stage) -> Stage:
    """The ONNX form of ``model``; an ONNX model is itself."""
    if model.kind == "onnx":
        return model
    return Stage(
        name="export",
        function="autotune.conversion.export:run",
        kind="onnx",
        parameters={"opset": OPSET},
        inputs=(model, data),
        libraries=(version("torch"), version("onnx")),
    )


def run(context: StageContext) -> Mapping[str, Any]:
    """Trace the network with two real samples; the first axis of every input stays dynamic.

    Raises:
        StageError: The exporter met an operator it cannot write; the message names it, with the
            module and the user's line.
    """
    import torch

    from autotune.training import network as networks

    network, _, source = networks.load(context.inputs[0])
    x = arrays.read(context.inputs[1], "test", limit=2)
    traced = networks.selected(network, source.output)
    inputs = tuple(torch.from_numpy(a) for a in x.values())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                traced,
                inputs,
                str(context.out / FILE),
                input_names=list(x),
                output_names=[OUTPUT],
                dynamic_axes={name: {0: BATCH} for name in [*x, OUTPUT]},
                opset_version=context.parameters["opset"],
                dynamo=False,
            )
    except Exception as error:  # whatever the exporter meets becomes the reason
        folder = Path(source.factory.file).parent if source.factory else Path()
        words = unsupported.reason(error, traced, inputs, folder)
        raise StageError(f"the ONNX exporter failed: {words}") from error
    networks.write_source(source, context.out)
    return {"bytes": (context.out / FILE).stat().st_size}


def prediction(artifact: Path) -> int | str:
    """Which output of an ONNX artifact is the prediction; an exported model has just the one."""
    from autotune.training.network import read_source

    source = read_source(artifact)
    return 0 if source.trainable else source.output
