"""PyTorch: eager, or a traced and frozen graph."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from autotune.artifact import Stage
from autotune.contracts import Parameter, Rejection
from autotune.hardware import bf16_kernels
from autotune.space import Settings
from autotune.target import Target
from autotune.task import ModelSource

if TYPE_CHECKING:
    from torch import nn

    from autotune.contracts import Arrays, Floats

summary = "PyTorch on the CPU"
libraries = ("torch",)
_HEAVY = ("conv", "linear", "matmul", "addmm")


def unavailable() -> str | None:
    return None if find_spec("torch") else "torch is not installed: pip install torch"


def parameters() -> tuple[Parameter, ...]:
    return (
        Parameter("channels_last", bool, False, help="memory layout with channels innermost"),
        Parameter("freeze", bool, False, help="trace, freeze and fuse the graph (TorchScript)"),
    )


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    precision = str(settings["precision"])
    if not model.trainable:
        return Rejection("never", "an ONNX model does not run in PyTorch")
    if precision.startswith("int"):
        return Rejection("not yet ours", f"torch takes no {precision} yet")
    if precision == "fp16":
        return Rejection("not on this target", "PyTorch has no fast fp16 kernels on CPUs")
    if precision == "bf16" and not bf16_kernels(target.machine):
        return Rejection("not on this target", f"{target.machine.cpu} has no bf16 instructions")
    return None


def depends_on_batch(settings: Settings) -> bool:
    return False


def stages(settings: Settings, model: Stage, data: Stage) -> Stage:
    return model


@contextmanager
def open(  # noqa: A001 - the contract's word
    artifact: Path, settings: Settings, batch: int, threads: int
) -> Iterator[_Session]:
    import torch

    from autotune.training import network as networks

    torch.set_num_threads(threads)
    network, _, source = networks.load(artifact)
    yield _Session(network, settings, source.output)


class _Session:
    def __init__(self, network: nn.Module, settings: Settings, output: int | str) -> None:
        import torch

        self._output = output
        self._last = bool(settings["torch.channels_last"])
        self._bf16 = settings["precision"] == "bf16"
        self._freeze = bool(settings["torch.freeze"])
        self._network = cast("Any", network)
        if self._last:
            self._network.to(memory_format=torch.channels_last)
        self._frozen = False

    def run(self, batch: Arrays) -> Floats:
        import torch

        from autotune.training.network import select

        inputs = [torch.from_numpy(a) for a in batch.values()]
        if self._last:
            inputs = [_channels_last(t) for t in inputs]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, self._bf16):
            if self._freeze and not self._frozen:
                self._trace(inputs)
            outputs: Floats = select(self._network(*inputs), self._output).float().numpy()
        return outputs

    def facts(self) -> Mapping[str, Any]:
        import torch

        operators = self._operators()
        heavy = sum(n for kind, n in operators.items() if any(w in kind.lower() for w in _HEAVY))
        return {
            "provider": "frozen" if self._frozen else "eager",
            "threads": torch.get_num_threads(),
            "kernels": {"bf16" if self._bf16 else "fp32": heavy},
            "operators": dict(operators.most_common()),
        }

    def _operators(self) -> Counter[str]:
        if self._frozen:
            return Counter(node.kind() for node in self._network.graph.nodes())
        leaves = (m for m in self._network.modules() if not list(m.children()))
        return Counter(type(m).__name__ for m in leaves)

    def _trace(self, inputs: list[Any]) -> None:
        """Trace with the first request's inputs; its time is the first call's, as of a compile."""
        import torch

        from autotune.training.network import selected

        jit: Any = torch.jit
        network = selected(self._network, self._output)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = jit.trace(network, tuple(inputs), check_trace=False)
            self._network = jit.optimize_for_inference(jit.freeze(traced.eval()))
        self._frozen = True


def _channels_last(tensor: Any) -> Any:
    import torch

    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
