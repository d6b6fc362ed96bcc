"""PyTorch: eager, a traced and frozen graph, or compiled; INT8 through torchao; NVIDIA GPUs."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from autotune.artifact import Stage
from autotune.contracts import Parameter, Rejection
from autotune.conversion import (
    cuda_profile,
    torch_cuda,
    torch_integers,
    torch_kernels,
    torch_profile,
)
from autotune.hardware import bf16_kernels
from autotune.profile import Profile
from autotune.space import Is, Settings
from autotune.target import Target
from autotune.task import ModelSource

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autotune.contracts import Arrays, Floats

summary = "PyTorch"
libraries = ("torch",)
_INTEGERS = ("int8", "int8_dynamic")


def unavailable() -> str | None:
    return None if find_spec("torch") else "torch is not installed: pip install torch"


def parameters() -> tuple[Parameter, ...]:
    return (
        Parameter("channels_last", bool, False, help="memory layout with channels innermost"),
        Parameter("freeze", bool, False, help="trace, freeze and fuse the graph (TorchScript)"),
        Parameter(
            "compile",
            bool,
            False,
            help="generate and compile C++ for the graph (torch.compile) at the first request",
            when=Is("torch.freeze", (False,)),
        ),
        *torch_cuda.PARAMETERS,
    )


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    precision = str(settings["precision"])
    if not model.trainable:
        return Rejection("never", "an ONNX model does not run in PyTorch")
    if target.gpu is not None:
        return torch_cuda.reject(settings, target.gpu)
    if precision == "bf16" and not bf16_kernels(target.machine):
        return Rejection("not on this target", f"{target.machine.cpu} has no bf16 instructions")
    if settings.get("torch.compile", False) and not _compiler():
        reason = "torch.compile needs a C++ compiler: install g++, or name one in CXX"
        return Rejection("not on this target", reason)
    if precision in _INTEGERS:
        return _no_integers(settings, target)
    return _NONE.get(precision)


_NONE = {
    "fp16": Rejection("not on this target", "PyTorch has no fast fp16 kernels on CPUs"),
    "fp8": Rejection("not on this target", "no CPU computes in fp8: it is for NVIDIA GPUs"),
    "int8_weights": Rejection(
        "not yet upstream", "torchao widens 8-bit weights to fp32 before every product on CPUs"
    ),
    "int4_weights": Rejection("not yet upstream", "torchao packs 4-bit weights for GPUs alone"),
}
"""Why PyTorch has none of these anywhere."""


def _no_integers(settings: Settings, target: Target) -> Rejection | None:
    """Why these settings have no integer kernels."""
    machine = target.machine
    if not (machine.has("avx512_vnni") or machine.has("avx_vnni")):
        reason = f"PyTorch's 8-bit products need VNNI, without which they overflow: {machine.cpu}"
        return Rejection("not on this target", reason)
    if settings.get("torch.freeze", False):
        return Rejection("never", "TorchScript cannot hold torchao's integer kernels")
    if settings.get("ptq.method", "minmax") != "minmax":
        reason = f"torchao has no {settings['ptq.method']} calibration, only minmax"
        return Rejection("not yet upstream", reason)
    if settings.get("ptq.granularity", "channel") != "channel":
        reason = "PyTorch has integer kernels only where each channel of the weights has a scale"
        return Rejection("not yet upstream", reason)
    if settings.get("ptq.keep", 0):
        reason = "torch keeps no layers in higher precision: they are known by ONNX's names"
        return Rejection("not yet ours", reason)
    return None


def _compiler() -> str | None:
    """The C++ compiler that torch.compile would call; None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def depends_on_batch(settings: Settings) -> bool:
    return False  # dynamic ranges are of one row each


def stages(settings: Settings, model: Stage, data: Stage) -> Stage:
    if settings["precision"] == "int8":
        return torch_integers.static(model, data, settings)
    if settings["precision"] == "int8_dynamic":
        return torch_integers.dynamic(model)
    return model


@contextmanager
def open(  # noqa: A001 - the contract's word
    artifact: Path, settings: Settings, batch: int, threads: int
) -> Iterator[_Session | torch_cuda.Session]:
    import torch

    from autotune.training import network as networks

    torch.set_num_threads(threads)
    network, _, source = networks.load(artifact)
    if "gpu.index" in settings:
        yield torch_cuda.Session(network, settings, threads, source.output)
    else:
        yield _Session(network, artifact, settings, source.output)


def profile(
    artifact: Path, settings: Settings, batch: int, threads: int, requests: Sequence[Arrays]
) -> Profile:
    with open(artifact, settings, batch, threads) as session:
        if "gpu.index" in settings:
            return cuda_profile.profile(session.run, requests)
        return torch_profile.profile(session.run, requests, _integers(settings))


def _integers(settings: Settings) -> str:
    """The word for integer kernels."""
    return "int8_dynamic" if settings["precision"] == "int8_dynamic" else "int8"


class _Session:
    """A network that is traced or compiled with the first request, whose time that is."""

    def __init__(
        self, network: nn.Module, artifact: Path, settings: Settings, output: int | str
    ) -> None:
        import torch

        self._artifact = artifact
        self._output = output
        self._precision = str(settings["precision"])
        self._last = bool(settings["torch.channels_last"])
        self._freeze = bool(settings.get("torch.freeze", False))
        self._compile = bool(settings.get("torch.compile", False))
        self._network = cast("Any", network)
        if self._last:
            self._network.to(memory_format=torch.channels_last)
        self._ready = False
        self._inputs: list[Tensor] = []
        self._ran: torch_kernels.Ran | None = None

    def run(self, batch: Arrays) -> Floats:
        import torch

        inputs = [torch.from_numpy(a) for a in batch.values()]
        if self._last:
            inputs = [_channels_last(t) for t in inputs]
        if not self._ready:
            self._inputs = [tensor.clone() for tensor in inputs]
            self._make_ready([tensor.clone() for tensor in inputs])
        return self._answer(inputs)

    def facts(self) -> Mapping[str, Any]:
        """As of the first request, which is run once more under a profiler."""
        import torch

        if self._ran is None:
            script = self._network if self._freeze else None
            word = "int8_dynamic" if self._precision == "int8_dynamic" else "int8"
            self._ran = torch_kernels.watch(lambda: self._answer(self._inputs), word, script)
        return {
            "provider": "frozen" if self._freeze else "compiled" if self._ran.compiled else "eager",
            "threads": torch.get_num_threads(),
            "kernels": self._ran.kernels,
            "operators": self._ran.operators,
        }

    def _answer(self, inputs: list[Tensor]) -> Floats:
        import torch

        from autotune.training.network import select

        if self._precision == "int8":  # whose kernels may add a residual into the array they read
            inputs = [tensor.clone() for tensor in inputs]
        with torch.inference_mode(), self._autocast():
            outputs: Floats = select(self._network(*inputs), self._output).float().numpy()
        return outputs

    def _autocast(self) -> Any:
        """On for bf16; a frozen graph holds its casts, and where the network wants none."""
        import torch

        on = self._precision == "bf16" and not (self._freeze and self._ready)
        return torch.autocast("cpu", torch.bfloat16, on)

    def _make_ready(self, inputs: list[Tensor]) -> None:
        """Make of the network what runs, for inputs of these shapes."""
        from autotune.training.network import selected

        changed = self._freeze or self._compile or self._precision == "int8"
        network = selected(self._network, self._output) if changed else self._network
        if self._precision == "int8":
            network = torch_integers.with_ranges(self._artifact, network, inputs)
        if self._precision == "int8_dynamic":
            network = torch_integers.with_dynamic_ranges(network)
        if self._freeze:
            network = self._frozen(network, inputs)
        elif self._compile:
            network = self._compiled(network, inputs)
        elif self._precision == "int8":
            network = torch_integers.lowered(network, inputs)
        self._network = network
        self._ready = True

    def _frozen(self, network: Any, inputs: list[Tensor]) -> Any:
        import torch

        jit: Any = torch.jit
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            with self._autocast(), torch_kernels.plain_attention(self._precision == "bf16"):
                traced = jit.trace(network, tuple(inputs), check_trace=False)
            return jit.optimize_for_inference(jit.freeze(traced.eval()))

    def _compiled(self, network: Any, inputs: list[Tensor]) -> Any:
        """The network compiled for these shapes, its weights frozen and laid out for its kernels.

        The compiler keeps what it made in its own cache, which other processes use too.
        """
        import torch
        import torch._inductor.config

        inductor: Any = torch._inductor.config
        compiled: Any = torch.compile(_of_its_own(network), dynamic=False)
        with (
            warnings.catch_warnings(),
            inductor.patch(freezing=True, compile_threads=1),
            torch.inference_mode(),
            self._autocast(),
        ):
            warnings.simplefilter("ignore")
            compiled(*inputs)
        return compiled


def _of_its_own(network: Any) -> Any:
    """A function that calls ``network``, of a code object of its own.

    By that the compiler knows what it has compiled: after some graphs for the same one it goes back
    to running the network as it is, and what it forgets, it forgets for all sessions that share it.
    """

    def forward(*inputs: Tensor) -> Any:
        return network(*inputs)

    code = forward.__code__.replace()
    return FunctionType(code, forward.__globals__, "forward", None, forward.__closure__)


def _channels_last(tensor: Any) -> Any:
    import torch

    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
