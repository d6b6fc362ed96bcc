"""Two resolved specs compared, and a space compared with what is left of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from autotune.errors import Infeasible
from autotune.space import Grid, Space

FREE = ("name", "budget", "slo", "stage_timeout")
"""What may change when a run is continued: no trial's result hangs on it, but where a server's rate
is found under the SLO."""


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What changed from ``a`` to ``b`` (resolved specs) and matters, one sentence each.

    For example ``space.batch: was [1, 2], is [1, 4]``.
    """
    before, after = dict(_leaves(a, "")), dict(_leaves(b, ""))
    free = [word for word in FREE if word != "slo" or b.get("scenario") != "server"]
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: {_side('was', before, key)}, {_side('is', after, key)}"
        for key in keys
        if key.split(".")[0] not in free and not _same(before.get(key), after.get(key))
    ]


def collapsed(space: Space, grid: Grid) -> tuple[str, ...]:
    """Which searched values no point of ``grid`` holds, one sentence a knob.

    For example ``precision: only fp32 is left; bf16, int8 cannot run anywhere here``.
    """
    sentences: list[str] = []
    for knob in space.searched():
        left = {point[knob.name] for point in grid.points if knob.name in point}
        values = knob.domain.grid() or ()
        gone = ", ".join(_text(v) for v in values if v not in left)
        if not gone:
            continue
        kept = [_text(v) for v in values if v in left]
        only = f"only {kept[0]} is left; " if len(kept) == 1 else ""
        sentences.append(f"{knob.name}: {only}{gone} cannot run anywhere here")
    return tuple(sentences)


def unable(space: Space, draws: int) -> dict[str, int]:
    """Why how many of so many random points of a space cannot run: where it cannot be counted."""
    rng = random.Random(0)
    reasons: Counter[str] = Counter()
    for _ in range(draws):
        try:
            space.configure({knob.name: knob.domain.draw(rng) for knob in space.knobs})
        except Infeasible as error:
            reasons[str(error)] += 1
    return dict(reasons)


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value or {"low", "high"} <= set(value):
        yield prefix, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))


def _side(verb: str, leaves: Mapping[str, Any], key: str) -> str:
    return f"{verb} {_text(leaves[key])}" if key in leaves else f"{verb} not there"


def _same(a: Any, b: Any) -> bool:
    return _text(a) == _text(b)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(v) for v in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
