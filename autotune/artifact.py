"""Stages of a configuration's pipeline and the addresses of what they make: values only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from autotune.version import __version__

Kind = Literal[
    "source", "data", "network", "logits", "onnx", "engine", "accuracy", "latency", "profile"
]


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline: a pure function of its inputs and its own parameters.

    Attributes:
        name: The word the report and the log use.
        function: ``module:function``, called with a ``StageContext``.
        kind: What its artifact holds.
        parameters: All that the function reads besides its inputs; part of the key.
        inputs: The stages whose artifacts it reads, in the order the function expects.
        libraries: ``name==version`` of the libraries that shape the result; part of the key.
        hints: What the function may read although it cannot change the result (a thread count, a
            folder to look in); not part of the key.
        lane: The target whose lane it needs for itself; "" for a preparing core.
        timeout_s: The time after which it is killed.
    """

    name: str
    function: str
    kind: Kind
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Stage, ...] = ()
    libraries: tuple[str, ...] = ()
    hints: Mapping[str, Any] = field(default_factory=dict)
    lane: str = ""
    timeout_s: float = 600.0

    @cached_property
    def key(self) -> str:
        """The address of the artifact: equal exactly where the result is the same."""
        parts = {
            "autotune": __version__,
            "stage": self.name,
            "function": self.function,
            "parameters": self.parameters,
            "inputs": [stage.key for stage in self.inputs],
            "libraries": sorted(self.libraries),
        }
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def chain(self) -> tuple[Stage, ...]:
        """This stage and all before it, each once, inputs first."""
        seen: dict[str, Stage] = {}

        def visit(stage: Stage) -> None:
            for before in stage.inputs:
                visit(before)
            seen.setdefault(stage.key, stage)

        visit(self)
        return tuple(seen.values())

    def __hash__(self) -> int:
        return hash(self.key)
