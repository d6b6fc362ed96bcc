"""How much each layer of an ONNX model suffers when it alone is quantized to INT8."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays, graphs
from autotune.conversion.export import prediction
from autotune.errors import StageError
from autotune.plugins import version

SAMPLES = 32
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Those that any backend quantizes."""
LIST = "sensitivity.json"


def stage(onnx: Stage, data: Stage) -> Stage:
    """The layers of ``onnx`` by their sensitivity; the same whatever is quantized later, and how.

    Its artifact lists ``{"node", "operator", "error"}``, most sensitive first.
    """
    return Stage(
        name="sensitivity",
        function="autotune.conversion.sensitivity:run",
        kind="logits",
        parameters={"samples": SAMPLES, "layers": list(LAYERS)},
        inputs=(onnx, data),
        libraries=(version("onnxruntime"), version("onnx")),
    )


def most(artifact: Path, keep: int, operators: Collection[str] = LAYERS) -> tuple[str, ...]:
    """The names of the ``keep`` most sensitive layers of these ``operators``.

    A layer is named as its node is in the ONNX file, an unnamed one by its first output. OpenVINO
    calls it so too, or, where the node adds a bias, that name with ``/WithoutBiases``.

    Raises:
        StageError: The model has no more than ``keep`` such layers, so nothing would be quantized.
    """
    found = json.loads((artifact / LIST).read_text())
    layers = [layer for layer in found if layer["operator"] in operators]
    if keep >= len(layers):
        raise StageError(
            f"ptq.keep is {keep}, but the model has {len(layers)} layers that can be quantized: "
            "at least one must be"
        )
    return tuple(layer["node"] for layer in layers[:keep])


def run(context: StageContext) -> Mapping[str, Any]:
    """Quantize once, then run the float model with one layer at a time taken from the result.

    The error is the length of the change of the prediction over the length of the prediction.

    Raises:
        StageError: There is no calibration sample, or no layer that can be quantized.
    """
    x = arrays.read(context.inputs[1], "calibration", limit=int(context.parameters["samples"]))
    if not x or not len(next(iter(x.values()))):
        raise StageError("ptq.keep needs calibration samples to find the most sensitive layers")
    model = graphs.load(context.inputs[0])
    quantized = _quantized(model, x)
    output = prediction(context.inputs[0])
    exact = _predict(model, x, output)
    found = []
    for node in _layers(quantized):
        changed = _predict(_with(model, quantized, node), x, output)
        error = float(np.linalg.norm(changed - exact)) / max(float(np.linalg.norm(exact)), 1e-30)
        found.append({"node": node.name, "operator": node.op_type, "error": error})
    if not found:
        raise StageError(f"the model has no layer that INT8 quantizes ({', '.join(LAYERS)})")
    found.sort(key=lambda layer: (-float(str(layer["error"])), str(layer["node"])))
    (context.out / LIST).write_text(json.dumps(found, indent=1))
    return {"layers": len(found), "samples": len(next(iter(x.values())))}


def _quantized(model: Any, x: Mapping[str, arrays.Array]) -> Any:
    """``model`` with quantized weights and inputs of every layer, named as before."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder, graphs.blame("the quantizer"):
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, str(before))
        quantize_static(
            str(before),
            str(after),
            graphs.Batches(x),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(LAYERS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(str(after))


def _layers(quantized: Any) -> list[Any]:
    made = {o for n in quantized.graph.node if n.op_type == "DequantizeLinear" for o in n.output}
    return [n for n in quantized.graph.node if n.op_type in LAYERS and set(n.input) & made]


def _with(model: Any, quantized: Any, layer: Any) -> Any:
    """The float ``model`` with ``layer`` of the quantized one and what quantizes its inputs."""
    import onnx

    makers = {o: n for n in quantized.graph.node for o in n.output}
    nodes = [layer]
    for node in nodes:
        before = (makers[i] for i in node.input if i in makers)
        nodes += [n for n in before if n.op_type in _PAIR and n not in nodes]
    made = {o for n in nodes[1:] for o in n.output}
    alone = [_renamed(n, made) for n in reversed(nodes)]
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    here = [n.name for n in changed.graph.node].index(layer.name)
    alone[-1].output[:] = changed.graph.node[here].output
    del changed.graph.node[here]
    for place, node in enumerate(alone, here):
        changed.graph.node.insert(place, node)
    have = {t.name for t in changed.graph.initializer}
    read = {i for n in alone for i in n.input} - have
    changed.graph.initializer.extend(t for t in quantized.graph.initializer if t.name in read)
    return changed


def _renamed(node: Any, names: Collection[str]) -> Any:
    """A copy in which these tensors have names that the float model cannot know."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [f"alone/{i}" if i in names else i for i in node.input]
    copy.output[:] = [f"alone/{o}" if o in names else o for o in node.output]
    return copy


_PAIR = ("QuantizeLinear", "DequantizeLinear")


def _predict(model: Any, x: Mapping[str, arrays.Array], output: int | str) -> Any:
    """The prediction for ``x`` in double precision."""
    session = graphs.session(model, "ORT_ENABLE_BASIC")
    names: Sequence[str] = [place.name for place in session.get_outputs()]
    name = names[output] if isinstance(output, int) else output
    return session.run([name], x)[0].astype(np.float64)
