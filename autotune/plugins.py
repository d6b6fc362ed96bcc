"""Find plug-ins by file name and by entry point, without importing what is not asked for."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from functools import cache
from pathlib import Path
from typing import Literal, cast, overload

from autotune.contracts import Backend, Metric, Sampler, Technique
from autotune.errors import UserError

Kind = Literal["backends", "techniques", "samplers", "metrics"]


@cache
def names(kind: Kind) -> tuple[str, ...]:
    """The names of all plug-ins of a kind, sorted; ours first where a third party reuses one."""
    folder = Path(__file__).parent / kind
    ours = {m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_")}
    return tuple(sorted(ours | {point.name for point in _points(kind)}))


@overload
def load(kind: Literal["backends"], name: str) -> Backend: ...
@overload
def load(kind: Literal["techniques"], name: str) -> Technique: ...
@overload
def load(kind: Literal["samplers"], name: str) -> Sampler: ...
@overload
def load(kind: Literal["metrics"], name: str) -> Metric: ...
def load(kind: Kind, name: str) -> Backend | Technique | Sampler | Metric:
    """The plug-in ``name``. An ImportError inside it is a bug and is not swallowed.

    Raises:
        UserError: No plug-in of that kind has that name.
    """
    if name not in names(kind):
        raise UserError(f"no {kind[:-1]} '{name}'", remedy=f"known: {', '.join(names(kind))}")
    if (Path(__file__).parent / kind / f"{name}.py").exists():
        module = importlib.import_module(f"autotune.{kind}.{name}")
    else:
        module = next(p for p in _points(kind) if p.name == name).load()
    return cast("Backend | Technique | Sampler | Metric", module)


def version(distribution: str) -> str:
    """``name==version`` of an installed distribution, ``name==absent`` of one that is not.

    The same library under another name is told by that name.
    """
    for name in (distribution, *_ALSO.get(distribution, ())):
        try:
            return f"{name}=={importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{distribution}==absent"


_ALSO = {"onnxruntime": ("onnxruntime-gpu",)}
"""Distributions that bring the same module."""


def _points(kind: Kind) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=f"autotune.{kind}"))
