"""An ONNX model with what is constant computed and what does nothing removed, by onnxslim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import graphs
from autotune.conversion.export import FILE
from autotune.plugins import version


def stage(onnx: Stage) -> Stage:
    """The simplified form of an ONNX model; the nodes that are left keep their names."""
    return Stage(
        name="simplify",
        function="autotune.conversion.simplify:run",
        kind="onnx",
        inputs=(onnx,),
        libraries=(version("onnxslim"), version("onnx")),
    )


def run(context: StageContext) -> Mapping[str, Any]:
    """Simplify; the facts say how many nodes there were and are.

    Raises:
        StageError: onnxslim cannot take the model; the message has its words.
    """
    import onnx
    import onnxslim

    model = graphs.load(context.inputs[0])
    before = len(model.graph.node)
    with graphs.blame("onnxslim"):
        slim = onnxslim.slim(model)
    onnx.save(slim, str(context.out / FILE))
    return {**graphs.finish(context), "nodes_before": before, "nodes": len(slim.graph.node)}
