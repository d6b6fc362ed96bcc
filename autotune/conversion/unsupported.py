"""Why the exporter refused a network: the operator, and the user's line that calls it."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

_OPERATOR = re.compile(r"operator '?(?:aten::)?([A-Za-z_]\w*)'?")
_ASIDE = re.compile(r"\s*(\[Caused by|Please feel free|Please open|Inputs:).*", re.DOTALL)
_LINE = re.compile(r"^(?P<file>.+)\((?P<line>\d+)\): ", re.MULTILINE)


def reason(error: Exception, network: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> str:
    """What the exporter said of ``network``, with the operator's place first.

    Args:
        error: What it raised.
        network: What was exported.
        inputs: What it was traced with.
        folder: Where the user's code is.
    """
    words = " ".join(_ASIDE.sub("", str(error)).split())[:400]
    told = f"{type(error).__name__}: {words}"
    operator = _OPERATOR.search(words)
    if operator is None:
        return told
    return f"{operator[1]}{_place(operator[1], network, inputs, folder)}: {told}"


def _place(operator: str, network: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> str:
    """The module and the user's line in which the operator is first called; "" if unknown."""
    scope, stack = _call(operator, network, inputs)
    _, _, module = scope.rpartition("__module.")
    lines = _LINE.finditer(stack)
    mine = next((m for m in lines if folder in Path(m["file"]).parents), None)
    parts = [
        f"in module '{module.removeprefix('network.')}'" if module not in ("", "network") else "",
        f"at {mine['file']}:{mine['line']}" if mine else "",
    ]
    return "".join(f" {part}" for part in parts if part)


def _call(operator: str, network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[str, str]:
    """Module and Python stack of the operator's first call in a trace; "" where it is not found."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = torch.jit.trace(network, inputs, check_trace=False).inlined_graph  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - whatever stops the tracer too: the exporter's words are told
        return "", ""
    nodes = graph.findAllNodes(f"aten::{operator}")
    return (nodes[0].scopeName(), nodes[0].sourceRange()) if nodes else ("", "")
