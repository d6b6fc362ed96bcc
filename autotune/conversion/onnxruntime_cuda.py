"""ONNX Runtime on an NVIDIA GPU: its CUDA and TensorRT execution providers and their options."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.artifact import Stage
from autotune.contracts import Parameter, Rejection, StageContext
from autotune.conversion import graphs, narrow, onnxruntime_profile
from autotune.conversion.export import FILE
from autotune.errors import StageError
from autotune.plugins import version as named
from autotune.space import AllOf, Is, Settings
from autotune.target import Gpu

if TYPE_CHECKING:
    from autotune.contracts import Arrays, Floats

    Opening = Callable[[list[Any], Path | None], Any]
    """(providers, where to write a profile) -> an InferenceSession"""

INSTALL = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
"""The two put their files in one folder, so that only one of them may be there."""
_CUDA = Is("device", ("cuda",))
_PROVIDER = "onnxruntime.provider"
_OWN = AllOf((_CUDA, Is(_PROVIDER, ("cuda",))))
PARAMETERS = (
    Parameter(
        "provider",
        str,
        "cuda",
        choices=("cuda", "tensorrt"),
        help="who runs the nodes on a GPU: CUDA kernels, or TensorRT engines made when loading",
        when=_CUDA,
    ),
    Parameter(
        "io_binding",
        bool,
        True,
        help="inputs and outputs keep their places on the GPU from request to request",
        when=_CUDA,
    ),
    Parameter(
        "cuda_graph",
        bool,
        False,
        help="launch a request's kernels as one CUDA graph",
        when=AllOf((_CUDA, Is("onnxruntime.io_binding", (True,)))),
    ),
    Parameter(
        "conv_search",
        str,
        "exhaustive",
        choices=("exhaustive", "heuristic", "default"),
        help="how cuDNN chooses a convolution's algorithm at the first request",
        when=_OWN,
    ),
    Parameter(
        "arena",
        str,
        "power_of_two",
        choices=("power_of_two", "as_requested"),
        help="how much the GPU's memory pool grows by when it is full",
        when=_OWN,
    ),
    Parameter(
        "tf32",
        bool,
        False,
        help="round the factors of fp32 products to 10 bits, which tensor cores multiply",
        when=AllOf((_OWN, Is("precision", ("fp32",)))),
    ),
)
_NAMES = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_ARENA = {"power_of_two": "kNextPowerOfTwo", "as_requested": "kSameAsRequested"}
_HEAVY = (
    *("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"),
    *("Attention", "MultiHeadAttention", "LSTM", "GRU", "TRTKernel"),
)


_NONE = {
    "bf16": "bf16 is not done through onnxruntime on GPUs yet: torch and tensorrt have it",
    "int8": "onnxruntime's CUDA kernels would compute in floating point; tensorrt has int8",
    "fp8": "onnxruntime has no fp8 kernels: tensorrt has",
    "int8_dynamic": "onnxruntime finds ranges at run time on CPUs alone: tensorrt has int8",
    "int8_weights": "products with 8-bit weights are not done through onnxruntime on GPUs yet",
    "int4_weights": "products with 4-bit weights are not done through onnxruntime on GPUs yet",
}
"""Why there is none of these with CUDA kernels, and who has it."""


def both() -> str | None:
    """What is wrong where both distributions are installed, and what would mend it; else None."""
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        return (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
            f"pip uninstall -y onnxruntime-gpu; {INSTALL} (or keep onnxruntime alone)"
        )
    return None


def reject(settings: Settings, gpu: Gpu) -> Rejection | None:
    """Why these settings cannot run on ``gpu``."""
    precision = str(settings["precision"])
    if not _installed("onnxruntime-gpu"):
        reason = f"the installed onnxruntime has no GPU providers: {INSTALL}"
        return Rejection("not on this target", reason)
    if precision != "fp32" and settings.get(_PROVIDER) == "tensorrt":
        reason = "onnxruntime does not tell what its engines compute in: the backend tensorrt does"
        return Rejection("not yet upstream", reason)
    if precision in _NONE:
        ours = "yet" in _NONE[precision]
        return Rejection("not yet ours" if ours else "not yet upstream", _NONE[precision])
    if settings.get("onnxruntime.tf32") and not gpu.has("tf32"):
        reason = f"{gpu.name} (compute capability {gpu.capability}) has no tf32"
        return Rejection("not on this target", reason)
    return None


def stage(onnx: Stage, settings: Settings) -> Stage:
    """The model in the types that it shall run in."""
    if settings["precision"] != "fp16":
        return onnx
    return Stage(
        name="narrow",
        function="autotune.conversion.onnxruntime_cuda:run",
        kind="onnx",
        parameters={"floats": "fp16"},
        inputs=(onnx,),
        libraries=(named("onnx"),),
    )


def run(context: StageContext) -> Mapping[str, Any]:
    """Write the model with floating point of 16 bits."""
    import onnx

    model = narrow.floats(graphs.load(context.inputs[0]), context.parameters["floats"])
    onnx.save(model, str(context.out / FILE))
    return graphs.finish(context)


def providers(settings: Settings) -> list[Any]:
    """The providers with their options, in the order in which they may take nodes.

    Those of the CPU come last: they take what has no kernel on the GPU (shapes, for the most part).
    """
    graph = "1" if settings.get("onnxruntime.cuda_graph", False) else "0"
    device = str(settings["gpu.index"])
    tf32 = "1" if settings.get("onnxruntime.tf32", False) else "0"
    search = str(settings.get("onnxruntime.conv_search", "exhaustive"))
    arena = _ARENA[str(settings.get("onnxruntime.arena", "power_of_two"))]
    cuda = {
        "device_id": device,
        "cudnn_conv_algo_search": search.upper(),
        "arena_extend_strategy": arena,
        "use_tf32": tf32,
    }
    if settings[_PROVIDER] == "cuda":
        return [(_NAMES["cuda"], {**cuda, "enable_cuda_graph": graph}), "CPUExecutionProvider"]
    engine = {"device_id": device, "trt_cuda_graph_enable": graph}
    return [(_NAMES["tensorrt"], engine), (_NAMES["cuda"], cuda), "CPUExecutionProvider"]


class Session:
    """A model on GPU ``gpu.index``; ``make`` opens it with the providers that it is given.

    Args:
        make: Opens an InferenceSession.
        settings: The configuration's.
        threads: Of the nodes that stay on the cores.
        output: Which output is the prediction.

    Raises:
        StageError: The provider is not there (which library is missing, in its own words), or the
            GPU's memory is too small.
    """

    def __init__(
        self,
        make: Opening,
        settings: Settings,
        threads: int,
        output: int | str,
    ) -> None:
        self._make, self._settings, self._threads = make, settings, threads
        self._wanted = _NAMES[str(settings[_PROVIDER])]
        self._session = self._opened(None)
        names = [place.name for place in self._session.get_outputs()]
        self._output = names[output] if isinstance(output, int) else output
        self._bound: Bound | None = None
        self._last: Arrays | None = None

    def run(self, batch: Arrays) -> Floats:
        """The prediction for one batch, host in, host out."""
        self._last = batch
        try:
            if not self._settings["onnxruntime.io_binding"]:
                outputs: list[Floats] = self._session.run([self._output], dict(batch))
                return outputs[0].astype(np.float32, copy=False)
            if self._bound is None:
                index = int(self._settings["gpu.index"])
                self._bound = Bound(self._session, self._output, index, batch)
            return self._bound.run(batch)
        except Exception as error:
            if "memory" in str(error).lower():
                raise StageError(
                    f"out of device memory: {_words(error)}; lower the batch"
                ) from error
            raise

    def facts(self) -> Mapping[str, Any]:
        """The last request run once more under the profiler: who ran which node, in what type."""
        if self._last is None:
            raise StageError("a session tells what it ran only after a request")
        with tempfile.TemporaryDirectory() as folder:
            session = self._opened(Path(folder) / "trace")
            session.run([self._output], dict(self._last))
            trace = Path(session.end_profiling())
            profile = onnxruntime_profile.profile(trace, [0.0], lambda _: None)
        heavy = [row for row in profile.rows if row.operator.startswith(_HEAVY)]
        return {
            "provider": f"{self._session.get_providers()[0]} of GPU {self._settings['gpu.index']}",
            "threads": self._threads,
            "kernels": dict(Counter(row.precision for row in heavy)),
            "operators": dict(Counter(row.operator for row in profile.rows).most_common()),
        }

    def _opened(self, trace: Path | None) -> Any:
        """The session; a provider that could not be had is left out by onnxruntime with a log."""
        session = self._make(providers(self._settings), trace)
        if self._wanted not in session.get_providers():
            raise StageError(
                f"onnxruntime could not load {self._wanted}; it has "
                f"{', '.join(session.get_providers())}: its CUDA and cuDNN libraries must be the "
                f"ones that onnxruntime-gpu was built for ({INSTALL})"
            )
        return session


class Bound:
    """Inputs and one output at fixed places on the GPU, as CUDA graphs want them.

    Args:
        session: An InferenceSession.
        output: The output's name.
        index: The GPU.
        first: A request, which tells shapes and types.
        device: ``cuda``; ``cpu`` puts them in the host's memory, for a session without a GPU.
    """

    def __init__(
        self, session: Any, output: str, index: int, first: Arrays, device: str = "cuda"
    ) -> None:
        from onnxruntime import OrtValue

        self._session = session
        place = session.io_binding()
        values = {
            name: OrtValue.ortvalue_from_numpy(np.array(array), device, index)  # not the caller's
            for name, array in first.items()
        }
        for name, value in values.items():
            place.bind_ortvalue_input(name, value)
        place.bind_output(output, device, index)  # the first run tells its shape
        session.run_with_iobinding(place)
        made = place.get_outputs()[0].numpy()
        self._value = OrtValue.ortvalue_from_shape_and_type(made.shape, made.dtype, device, index)
        place.clear_binding_outputs()
        place.bind_ortvalue_output(output, self._value)
        self._inputs, self._binding = values, place

    def run(self, batch: Arrays) -> Floats:
        """The prediction for one batch of the first one's shape."""
        for name, value in self._inputs.items():
            value.update_inplace(np.ascontiguousarray(batch[name]))
        self._session.run_with_iobinding(self._binding)
        found: Floats = np.array(self._value.numpy(), dtype=np.float32)
        return found


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
