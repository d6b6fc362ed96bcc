"""PyTorch on an NVIDIA GPU: what can be asked of it, and the session that runs it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.contracts import Parameter, Rejection
from autotune.conversion import torch_kernels
from autotune.errors import StageError
from autotune.space import AllOf, Is, Not, Settings
from autotune.target import Gpu

if TYPE_CHECKING:
    from torch import nn

    from autotune.contracts import Arrays, Floats

_CUDA = Is("device", ("cuda",))
_NARROW = Is("precision", ("fp16", "bf16"))
_COMPILED = Is("torch.compile", (True,))
PARAMETERS = (
    Parameter(
        "mode",
        str,
        "default",
        choices=("default", "reduce-overhead", "max-autotune"),
        help="what torch.compile works for on a GPU: CUDA graphs, or the fastest kernels as well",
        when=AllOf((_CUDA, _COMPILED)),
    ),
    Parameter(
        "cuda_graph",
        bool,
        False,
        help="launch a request's kernels as one CUDA graph",
        when=AllOf((_CUDA, Not(_COMPILED))),
    ),
    Parameter(
        "cast",
        str,
        "autocast",
        choices=("autocast", "network"),
        help="fp16 and bf16 for the operators that autocast chooses, or for the whole network",
        when=AllOf((_CUDA, _NARROW)),
    ),
    Parameter(
        "tf32",
        bool,
        False,
        help="round the factors of fp32 products to 10 bits, which tensor cores multiply",
        when=AllOf((_CUDA, Is("precision", ("fp32",)))),
    ),
    Parameter(
        "sparse",
        bool,
        False,
        help="use that 2 of 4 weights of linear layers are zero, where they are",
        when=AllOf((_CUDA, Is("torch.cast", ("network",)))),
    ),
)
_WARM = 3
"""Requests before a capture: torch asks for some, so that nothing is set up within it."""
_TIMED = 20
_TILE = (32, 64)
"""Rows and columns of a sparse weight come in multiples of these (torch.sparse, 16-bit types)."""

_NONE = {
    "int8": "PyTorch's static INT8 is made of kernels for x86 here: the backend tensorrt has int8",
    "fp8": "torchao's products in fp8 are not used yet: the backend tensorrt has fp8",
    "int8_dynamic": "torchao's products with ranges found at run time are not used on GPUs yet",
    "int8_weights": "torchao's products with 8-bit weights are not used on GPUs yet",
    "int4_weights": "torchao's products with 4-bit weights are not used on GPUs yet",
}
"""What is not done here on GPUs, and who has it or what would."""


def reject(settings: Settings, gpu: Gpu) -> Rejection | None:
    """Why these settings cannot run on ``gpu``."""
    precision = str(settings["precision"])
    if not _with_cuda():
        reason = "the installed torch is built without CUDA: pip install torch, of a CUDA build"
        return Rejection("not on this target", reason)
    if precision in _NONE:
        return Rejection("not yet ours", _NONE[precision])
    if settings.get("torch.freeze", False):
        return Rejection("never", "torch.freeze is for cores; on a GPU there is torch.compile")
    needed = [precision, *["tf32"] * bool(settings.get("torch.tf32"))]
    needed += ["2:4"] * bool(settings.get("torch.sparse"))
    if lacking := [word for word in needed if not gpu.has(word)]:
        reason = f"{gpu.name} (compute capability {gpu.capability}) has no {lacking[0]}"
        return Rejection("not on this target", reason)
    if settings.get("torch.sparse") and settings.get("prune.structure") != "2:4":
        return Rejection("never", "no weights are 2:4 sparse without prune.structure: 2:4")
    return None


class Session:
    """A network on GPU ``gpu.index``, made ready with the first request, whose time that is.

    Raises:
        StageError: The GPU cannot be used, or its memory is too small.
    """

    def __init__(
        self, network: nn.Module, settings: Settings, threads: int, output: int | str
    ) -> None:
        import torch

        self._settings, self._threads, self._output = settings, threads, output
        self._precision = str(settings["precision"])
        self._device = torch.device("cuda", int(settings["gpu.index"]))
        self._last = bool(settings["torch.channels_last"])
        self._tf32()
        with _told("load the network"):
            self._plain: Any = self._placed(network)
        self._sparse = self._sparsified() if settings.get("torch.sparse") else 0
        self._network: Any = self._plain
        self._graph: Any = None
        self._hosts: list[Any] = []
        self._inputs: list[Any] = []

    def run(self, batch: Arrays) -> Floats:
        """The prediction for one batch, host in, host out."""
        import torch

        with torch.inference_mode(), _told("run a request"):
            first = not self._inputs
            if first:
                self._reserve(batch)
            arrays = zip(self._hosts, self._inputs, batch.values(), strict=True)
            for host, place, array in arrays:
                host.copy_(torch.from_numpy(np.ascontiguousarray(array)))
                place.copy_(host, non_blocking=True)
            if first:
                self._make_ready()
            found: Floats = self._go().float().cpu().numpy()  # waits for the GPU
            return found

    def facts(self) -> Mapping[str, Any]:
        """As of the last request; of a compiled or captured network, what it was made from."""
        import torch

        with torch.inference_mode():
            ran = torch_kernels.watch(lambda: self._answer(self._plain))
            device_ms = self._device_ms()
        return {
            "provider": f"{self._word()} on {torch.cuda.get_device_name(self._device)}",
            "threads": self._threads,
            "kernels": ran.kernels,
            "operators": ran.operators,
            "device_ms": device_ms,
            "sparse_layers": self._sparse,
        }

    def _placed(self, network: nn.Module) -> Any:
        import torch

        placed: Any = network.eval().to(self._device)
        if self._settings.get("torch.cast") == "network":
            placed = placed.to(_type(self._precision))
        return placed.to(memory_format=torch.channels_last) if self._last else placed

    def _sparsified(self) -> int:
        """How many linear layers were given packed weights."""
        import torch
        from torch import nn
        from torch.sparse import to_sparse_semi_structured

        count = 0
        for layer in (m for m in self._plain.modules() if isinstance(m, nn.Linear)):
            rows, columns = layer.weight.shape
            fits = rows % _TILE[0] == 0 and columns % _TILE[1] == 0
            groups = layer.weight.detach().reshape(-1, 4) if fits else None
            if groups is not None and bool((groups.count_nonzero(dim=1) <= 2).all()):
                packed = to_sparse_semi_structured(layer.weight.detach())
                layer.weight = nn.Parameter(packed, requires_grad=False)
                count += 1
        if not count:
            raise StageError("no linear layer has 2:4 sparse weights of a size that can be packed")
        torch.cuda.synchronize(self._device)
        return count

    def _reserve(self, batch: Arrays) -> None:
        """Pinned memory and the device's own for every input: captured graphs read them there."""
        import torch

        for array in batch.values():
            host = torch.from_numpy(np.ascontiguousarray(array)).pin_memory()
            narrow = self._settings.get("torch.cast") == "network" and host.is_floating_point()
            kind = _type(self._precision) if narrow else host.dtype
            form = (
                torch.channels_last if self._last and host.dim() == 4 else torch.contiguous_format
            )
            place = torch.empty_like(host, dtype=kind, device=self._device, memory_format=form)
            self._hosts.append(host)
            self._inputs.append(place)

    def _make_ready(self) -> None:
        """Compile or capture, for inputs of these shapes."""
        import torch

        if self._settings.get("torch.compile", False):
            mode = str(self._settings.get("torch.mode", "default"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._network = torch.compile(self._plain, mode=mode, dynamic=False)
                for _ in range(_WARM):  # modes with CUDA graphs record at the second call
                    self._answer(self._network)
        elif self._settings.get("torch.cuda_graph", False):
            side: Any = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(side):
                for _ in range(_WARM):
                    self._answer(self._plain)
            torch.cuda.current_stream(self._device).wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._captured = self._answer(self._plain)

    def _go(self) -> Any:
        if self._graph is None:
            return self._answer(self._network)
        self._graph.replay()
        return self._captured

    def _answer(self, network: Any) -> Any:
        import torch

        from autotune.training.network import select

        on = self._settings.get("torch.cast") == "autocast"
        with torch.autocast(
            "cuda", _type(self._precision) if on else None, on, cache_enabled=False
        ):
            return select(network(*self._inputs), self._output)

    def _device_ms(self) -> float:
        """The median of the GPU's own time between two events around a request's kernels."""
        import torch

        event: Any = torch.cuda.Event
        times = []
        for _ in range(_TIMED):
            events = [event(enable_timing=True) for _ in range(2)]
            events[0].record()
            self._go()
            events[1].record()
            torch.cuda.synchronize(self._device)
            times.append(events[0].elapsed_time(events[1]))
        return float(np.median(times))

    def _tf32(self) -> None:
        """Torch rounds the factors of convolutions unless told not to."""
        import torch

        on = bool(self._settings.get("torch.tf32", False))
        torch.backends.cudnn.allow_tf32 = on
        torch.backends.cuda.matmul.allow_tf32 = on
        torch.backends.cudnn.benchmark = True

    def _word(self) -> str:
        if self._settings.get("torch.compile", False):
            return f"compiled ({self._settings.get('torch.mode', 'default')})"
        return "CUDA graph" if self._graph is not None else "eager"


def _type(precision: str) -> Any:
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)


def _with_cuda() -> bool:
    """Whether torch is a build with CUDA, told by its version without importing it."""
    try:
        return not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


@contextmanager
def _told(what: str) -> Iterator[None]:
    """CUDA's errors as a stage's: out of memory with how much was wanted, in torch's words."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        words = " ".join(str(error).split())[:400]
        raise StageError(f"out of device memory: {words} Lower the batch.") from error
    except (AssertionError, RuntimeError) as error:
        if not any(word in str(error) for word in ("CUDA", "NVIDIA")):
            raise
        words = " ".join(str(error).split())[:300]
        raise StageError(f"the GPU cannot {what}: {words}") from error
