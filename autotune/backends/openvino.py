"""OpenVINO on the CPU; fewer bits through NNCF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.artifact import Stage
from autotune.contracts import Parameter, Rejection
from autotune.conversion import export, openvino_profile, simplify
from autotune.conversion.openvino_models import FILE, compressed, quantized
from autotune.hardware import bf16_kernels
from autotune.profile import Profile
from autotune.space import Is, Settings
from autotune.target import Machine, Target
from autotune.task import ModelSource

if TYPE_CHECKING:
    from autotune.contracts import Arrays, Floats

summary = "OpenVINO, CPU plug-in"
libraries = ("openvino",)
_HEAVY = (
    "Convolution",
    "GroupConvolution",
    "FullyConnected",
    "MatMul",
    "Deconvolution",
    "Gemm",
    "RNNSeq",
    "RNNCell",
)
_WORDS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}
_FLOATS = ("f32", "bf16", "f16")
_DYNAMIC_GROUP = 32
"""How many activations share a scale where it is found anew for every request: OpenVINO's own."""

_TRIES = 3
"""So often a profile is taken anew because something else ran meanwhile."""


def unavailable() -> str | None:
    if find_spec("openvino") is None:
        return "openvino is not installed: pip install openvino nncf"
    return None


def parameters() -> tuple[Parameter, ...]:
    return (
        Parameter(
            "hint",
            str,
            "latency",
            choices=("latency", "throughput"),
            help="latency: one stream on all threads; throughput: a stream on each thread",
        ),
        Parameter(
            "execution_mode",
            str,
            "accuracy",
            choices=("accuracy", "performance"),
            help="performance: what is not quantized may run in bf16 instead of fp32",
            when=Is("precision", ("int8", "int8_weights", "int4_weights")),
        ),
        Parameter(
            "snippets",
            bool,
            True,
            help="compile attention and chains of small operators into one kernel each",
        ),
        Parameter("simplify", bool, False, help="simplify the ONNX model with onnxslim first"),
    )


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    precision = settings["precision"]
    machine = target.machine
    if target.gpu is not None:
        return Rejection("never", "openvino runs on no NVIDIA GPU: give the cores a target too")
    if precision == "fp16":
        return Rejection("not on this target", "openvino runs fp16 only on CPUs with AMX-FP16")
    if precision == "fp8":
        return Rejection("not on this target", "no CPU computes in fp8: it is for NVIDIA GPUs")
    if precision == "bf16" and not bf16_kernels(machine):
        return Rejection("not on this target", f"{machine.cpu} has no bf16 instructions")
    if settings.get("openvino.execution_mode") == "performance" and not bf16_kernels(machine):
        reason = f"{machine.cpu} has no bf16 instructions, so both execution modes are one"
        return Rejection("not on this target", reason)
    if settings.get("openvino.hint") == "throughput" and settings.get("threads") == 1:
        return Rejection("never", "on one thread there is one stream: both hints are the same")
    if precision == "int8" and settings.get("ptq.method") == "entropy":
        return Rejection("never", "openvino (NNCF) has no entropy calibration")
    if precision == "int8_dynamic" and not _dynamic(machine):
        reason = f"openvino rounds activations at run time only with VNNI; {machine.cpu} has none"
        return Rejection("not on this target", reason)
    return None


def _dynamic(machine: Machine) -> bool:
    """Whether the plug-in has products of integers whose ranges are found at run time."""
    return machine.has("avx512_vnni") or machine.has("avx_vnni")


def depends_on_batch(settings: Settings) -> bool:
    return False  # dynamic ranges are those of 32 neighbours within one sample


def stages(settings: Settings, model: Stage, data: Stage) -> Stage:
    precision = str(settings["precision"])
    onnx = export.stage(model, data)
    if settings.get("openvino.simplify", False):
        onnx = simplify.stage(onnx)
    if precision == "int8":
        return quantized(onnx, data, settings)
    if precision in ("int8_weights", "int8_dynamic"):
        return compressed(onnx, 8)
    if precision == "int4_weights":
        return compressed(onnx, 4, int(settings["weights.group"]))
    return onnx


@contextmanager
def open(  # noqa: A001 - the contract's word
    artifact: Path, settings: Settings, batch: int, threads: int
) -> Iterator[_Session]:
    compiled = _compiled(artifact, batch, _properties(settings, threads))
    yield _Session(compiled, export.prediction(artifact))


def profile(
    artifact: Path, settings: Settings, batch: int, threads: int, requests: Sequence[Arrays]
) -> Profile:
    properties = {**_properties(settings, threads), "PERF_COUNT": True}
    for _ in range(_TRIES):
        session = _Session(_compiled(artifact, batch, properties), export.prediction(artifact))
        found, calm = openvino_profile.profile(
            session.request, session.run, requests, session.precisions()
        )
        if calm:
            break
    return found


def _compiled(artifact: Path, batch: int, properties: Mapping[str, Any]) -> Any:
    import openvino as ov

    core = ov.Core()
    made = artifact / FILE
    model = core.read_model(str(made if made.exists() else artifact / export.FILE))
    shapes = {}
    for place in model.inputs:
        shape = place.get_partial_shape()
        shape[0] = batch
        shapes[place] = shape
    model.reshape(shapes)
    return core.compile_model(model, "CPU", dict(properties))


def _properties(settings: Settings, threads: int) -> dict[str, Any]:
    """The plug-in's properties; none is left to its own guess."""
    precision = settings["precision"]
    hint = str(settings.get("openvino.hint", "latency"))
    found: dict[str, Any] = {
        "PERFORMANCE_HINT": hint.upper(),
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads if hint == "throughput" else 1,
        "ENABLE_CPU_PINNING": False,
        # By itself the plug-in rounds activations wherever it finds weights of few bits.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": _DYNAMIC_GROUP if precision == "int8_dynamic" else 0,
    }
    if settings.get("openvino.execution_mode") == "performance":
        found["EXECUTION_MODE_HINT"] = "PERFORMANCE"
    else:
        found["INFERENCE_PRECISION_HINT"] = "bf16" if precision == "bf16" else "f32"
    if not settings.get("openvino.snippets", True):
        found["SNIPPETS_MODE"] = "DISABLE"
    return found


class _Session:
    def __init__(self, compiled: Any, output: int | str) -> None:
        self._compiled = compiled
        self._output = compiled.output(output)
        self.request = compiled.create_infer_request()

    def run(self, batch: Arrays) -> Floats:
        self.request.infer(batch, share_inputs=True, share_outputs=True)
        output: Floats = self.request.get_tensor(self._output).data.copy()
        return output

    def facts(self) -> Mapping[str, Any]:
        dynamic = self._dynamic()
        operators: Counter[str] = Counter()
        kernels: Counter[str] = Counter()
        precisions: Counter[str] = Counter()
        for node in self._nodes():
            kind = _told(node, "layerType")
            operators[kind] += 1
            precisions[_told(node, "runtimePrecision")] += 1
            if kind in _HEAVY:
                kernels[_precision(node, dynamic)] += 1
        return {
            "provider": "CPU",
            "threads": self._compiled.get_property("INFERENCE_NUM_THREADS"),
            "streams": self._compiled.get_property("NUM_STREAMS"),
            "kernels": dict(kernels),
            "operators": dict(operators.most_common()),
            "precisions": dict(precisions.most_common()),
        }

    def precisions(self) -> Mapping[str, str]:
        """The word for what each node computes in, by its name."""
        dynamic = self._dynamic()
        return {
            str(node.get_friendly_name()): _precision(node, dynamic)
            if _told(node, "layerType") in _HEAVY
            else _word(node)
            for node in self._nodes()
        }

    def _nodes(self) -> list[Any]:
        """The graph as it runs."""
        return list(self._compiled.get_runtime_model().get_ordered_ops())

    def _dynamic(self) -> bool:
        return bool(self._compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE"))


def _precision(node: Any, dynamic: bool) -> str:
    """The word for what a kernel computes in.

    A product of floating-point activations and integer weights is told by the weights; such a
    product rounds the activations where ``dynamic`` is on and they are float32, which are the
    conditions of the plug-in's executor (besides VNNI, which ``reject`` asks for).
    """
    source, weights = (_element(node, place) for place in (0, 1))
    if source in _FLOATS and weights in ("u4", "i4"):
        return "int4_weights"
    if source in _FLOATS and weights in ("u8", "i8"):
        return "int8_dynamic" if dynamic and source == "f32" else "int8_weights"
    return _word(node)


def _word(node: Any) -> str:
    word = _told(node, "runtimePrecision")
    return _WORDS.get(word, word)


def _element(node: Any, place: int) -> str:
    return str(node.input(place).get_element_type().get_type_name())


def _told(node: Any, word: str) -> str:
    return str(node.get_rt_info()[word].astype(str))
