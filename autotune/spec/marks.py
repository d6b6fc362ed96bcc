"""Plain data that remembers where every value stands, in the file or on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autotune.errors import SpecError

Where = tuple[str | int, ...]
"""The way to a value: mapping keys and list positions from the top."""


@dataclass(frozen=True)
class Document:
    """A file's plain data and where each of its values stands.

    Attributes:
        source: The file's name as the user gave it.
        data: Mappings, lists and scalars.
        lines: The line of each value, from 1.
        raw: Each scalar as it is written in the file.
        flags: Values that came from the command line, by the flag that brought them.
    """

    source: str
    data: Any
    lines: Mapping[Where, int] = field(default_factory=dict)
    raw: Mapping[Where, str] = field(default_factory=dict)
    flags: Mapping[Where, str] = field(default_factory=dict)

    def place(self, where: Where = ()) -> str:
        """``space.yaml:12: space.precision``, or the flag that the value came from."""
        for known, flag in self.flags.items():
            brought = known[: len(where)] == where and where not in self.lines
            if where[: len(known)] == known or brought:
                return flag
        prefixes = (where[:length] for length in range(len(where), -1, -1))
        line = next((f":{self.lines[p]}" for p in prefixes if p in self.lines), "")
        head = f"{self.source}{line}"
        return f"{head}: {dotted(where)}" if where else head

    def at(self, where: Where) -> Any:
        """The value that stands at ``where``; None where there is none."""
        value = self.data
        for part in where:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def error(self, where: Where, cause: str, remedy: str) -> SpecError:
        """An error that stands at ``where``."""
        return SpecError(cause, place=self.place(where), remedy=remedy)

    def with_overrides(self, overrides: Mapping[str, object]) -> Document:
        """This document with dotted keys of the command line put over it; None is not given.

        Raises:
            SpecError: A key leads through something that is not a mapping.
        """
        data, flags = _copied(self.data), dict(self.flags)
        for key, value in overrides.items():
            if value is None:
                continue
            where: Where = tuple(key.split("."))
            flags[where] = _flag(key)
            inner = data
            for depth, part in enumerate(where[:-1], 1):
                if inner.get(part) is None:
                    inner[part] = {}
                inner = inner[part]
                if not isinstance(inner, dict):
                    raise SpecError(
                        f"'{dotted(where[:depth])}' is not a mapping in {self.source}",
                        place=flags[where],
                        remedy=f"change it in the file, {self.place(where[:depth])}",
                    )
            inner[where[-1]] = value
        kept = [w for w in self.lines if not any(w[: len(f)] == f for f in flags)]
        lines = {where: self.lines[where] for where in kept}
        raw = {where: self.raw[where] for where in kept if where in self.raw}
        return replace(self, data=data, lines=lines, raw=raw, flags=flags)


def dotted(where: Where) -> str:
    """``("slo", 0)`` as ``slo[0]``, ``("space", "batch")`` as ``space.batch``."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _flag(key: str) -> str:
    short = {"budget.trials": "--trials", "budget.time": "--time"}
    short |= {word: f"--{word}" for word in ("name", "seed", "preset", "sampler")}
    return short.get(key, f"--set {key}")


def _copied(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list) else data
