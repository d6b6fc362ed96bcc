"""What a model takes of the GPU: memory, and energy for each sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.hardware import gpus

if TYPE_CHECKING:
    from autotune.contracts import Arrays, Floats

ENERGY_S = 1.0
"""For how long requests follow each other for the energy: its counter moves in steps of tens of
milliseconds."""


@dataclass(frozen=True)
class Before:
    """The GPU before anything of the measurement was on it.

    Attributes:
        index: Its number.
        used_bytes: Memory taken by others.
    """

    index: int
    used_bytes: int


def begin(settings: Mapping[str, Any]) -> Before | None:
    """The GPU that the settings name, as it is now; None where they name none."""
    if "gpu.index" not in settings:
        return None
    index = int(settings["gpu.index"])
    return Before(index, gpus.used_bytes(index))


def columns(
    before: Before | None, run: Callable[[Arrays], Floats], inputs: Sequence[Arrays]
) -> dict[str, dict[str, float]]:
    """Columns of what is taken after all requests, while the model is still loaded.

    Memory is what the GPU has given out since ``before``: the lane is exclusive, and the runtimes'
    pools keep what they once took. Energy is the whole GPU's, from its own counter, while requests
    follow one another; a GPU without that counter has no such column.
    """
    if before is None:
        return {}
    taken = max(0, gpus.used_bytes(before.index) - before.used_bytes)
    found = {"device_memory_peak_bytes": {"value": float(taken)}}
    start_mj = gpus.energy_mj(before.index)
    if start_mj is None:
        return found
    samples, until = 0, time.perf_counter() + ENERGY_S
    while time.perf_counter() < until:
        batch = inputs[samples % len(inputs)]
        run(batch)
        samples += len(next(iter(batch.values())))
    spent_mj = (gpus.energy_mj(before.index) or start_mj) - start_mj
    return {**found, "energy_mj_per_sample": {"value": spent_mj / samples}}
