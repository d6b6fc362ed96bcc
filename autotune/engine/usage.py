"""What a model takes beside time: a GPU's memory, and energy for each sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.hardware import gpus, rapl, state

if TYPE_CHECKING:
    from autotune.contracts import Arrays, Floats

    Run = Callable[[Arrays], Floats]

GPU_S = 1.0
"""For how long requests follow each other for the energy: a GPU's counter moves in steps of tens
of milliseconds."""
PACKAGE_S = 0.3
"""A processor's moves about every millisecond."""
IDLE = 0.05
"""A processor's energy is a model's where its other cores were busy for no larger share of it."""


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
    before: Before | None, run: Run, inputs: Sequence[Arrays], cores: Sequence[int] = ()
) -> dict[str, dict[str, float]]:
    """Columns of what is taken after all requests, while the model is still loaded.

    Memory is what the GPU has given out since ``before``: the lane is exclusive, and the runtimes'
    pools keep what they once took. Energy is the whole GPU's, or the processor's packages' where
    there is no GPU, from their own counters, while requests follow one another. There is no such
    column where nothing counts, and none of a processor whose cores beside ``cores``, which the
    model runs on, were busy.
    """
    if before is None:
        return _energy(_package_mj(run, inputs, cores))
    taken = max(0, gpus.used_bytes(before.index) - before.used_bytes)
    found = {"device_memory_peak_bytes": {"value": float(taken)}}
    return {**found, **_energy(_gpu_mj(before.index, run, inputs))}


def _energy(per_sample_mj: float | None) -> dict[str, dict[str, float]]:
    return {} if per_sample_mj is None else {"energy_mj_per_sample": {"value": per_sample_mj}}


def _gpu_mj(index: int, run: Run, inputs: Sequence[Arrays]) -> float | None:
    start_mj = gpus.energy_mj(index)
    if start_mj is None:
        return None
    samples = _requests(run, inputs, GPU_S)
    return ((gpus.energy_mj(index) or start_mj) - start_mj) / samples


def _package_mj(run: Run, inputs: Sequence[Arrays], cores: Sequence[int]) -> float | None:
    before = rapl.read()
    if not before:
        return None
    others = state.busy_beside(cores)
    samples = _requests(run, inputs, PACKAGE_S)
    spent, share = rapl.spent_mj(before, rapl.read()), others()
    if spent is None or share is None or share > IDLE:
        return None
    return spent / samples


def _requests(run: Run, inputs: Sequence[Arrays], seconds: float) -> int:
    """The samples that were answered in so long."""
    requests = samples = 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        batch = inputs[requests % len(inputs)]
        run(batch)
        requests += 1
        samples += len(next(iter(batch.values())))
    return samples
