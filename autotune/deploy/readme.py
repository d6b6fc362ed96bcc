"""What stands in ``best/README.txt``: what the files are, and code that loads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.training.network import SOURCE, read_source

FILES = {
    "model.onnx": "the model in ONNX",
    "model.xml": "the model as OpenVINO keeps it; its weights are in model.bin",
    "model.engine": "the engine that TensorRT runs; engine.json tells for which GPU and version",
    "network.pt": "the weights of the torch network and what its factory needs to build it",
    "source.json": "the model that it was made from, and which of its outputs is the prediction",
    "configuration.json": "the configuration, what was measured with it, and why it was picked",
}
_OPENVINO = """\
import openvino
model = openvino.Core().compile_model("{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "{type}"}})
prediction = model([x])[{output!r}]"""
_ONNX = """\
import onnxruntime
model = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
prediction = model.run({names}, {{model.get_inputs()[0].name: x}})[{index}]"""
_TORCH = """\
import pathlib, torch, autotune.training.network as networks
network = networks.load(pathlib.Path("."))[0]
with torch.inference_mode(){autocast}:
    prediction = networks.select(network(torch.from_numpy(x)), {output!r})"""
_MEASURED = """\
import json, pathlib, autotune.plugins, autotune.measure
autotune.measure.hold_heap()  # freed memory stays with the process
c = json.loads(pathlib.Path("configuration.json").read_text())["configuration"]
backend = autotune.plugins.load("backends", c["backend"]){gpu}
with backend.open(pathlib.Path("."), c, c["batch"], c["threads"]) as session:
    prediction = session.run({{"input": x}})  # or by the names that data() gives its inputs"""

_GPU = """
c["gpu.index"] = 0  # as nvidia-smi counts"""


def readme(folder: Path, settings: Mapping[str, Any]) -> str:
    """The text for the artifact in ``folder``, to be run with ``settings``."""
    output: int | str = 0
    if (folder / SOURCE).exists():
        source = read_source(folder)  # an exported model has just the one output
        output = 0 if source.trainable and settings.get("backend") != "torch" else source.output
    files = [f"  {name}: {what}" for name, what in FILES.items() if (folder / name).exists()]
    code = "" if settings.get("device") == "cuda" else _code(folder, settings, output)
    lines = ["What autotune picked.", "", *files, ""]
    if code:
        about = f"To run it with {settings['backend']}, in this folder, on an array x of its input:"
        lines += [about, "", *_indented(code), ""]
    if (folder / "network.pt").exists():
        lines += ["The factory is called again: source.json says in which file it is.", ""]
    lines += ["To run it as it was measured, with its threads and options:", ""]
    gpu = _GPU if settings.get("device") == "cuda" else ""
    return "\n".join([*lines, *_indented(_MEASURED.format(gpu=gpu)), ""])


def _code(folder: Path, settings: Mapping[str, Any], output: int | str) -> str:
    precision = settings.get("precision")
    model = "model.xml" if (folder / "model.xml").exists() else "model.onnx"
    match settings.get("backend"):
        case "openvino":
            kind = "bf16" if precision == "bf16" else "f32"
            return _OPENVINO.format(file=model, type=kind, output=output)
        case "onnxruntime":
            names = repr([output]) if isinstance(output, str) else "None"
            index = 0 if isinstance(output, str) else output
            return _ONNX.format(file=model, names=names, index=index)
        case "torch":
            bf16 = ', torch.autocast("cpu", torch.bfloat16)' if precision == "bf16" else ""
            return _TORCH.format(autocast=bf16, output=output)
        case _:
            return ""


def _indented(code: str) -> list[str]:
    return [f"    {line}" for line in code.splitlines()]
