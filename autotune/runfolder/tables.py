"""The tables of a run: one row a trial, and the front alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autotune.front import non_dominated
from autotune.runfolder.run import RunData
from autotune.space import Scalar
from autotune.store import disk
from autotune.trial import Trial

UNFINISHED = "unfinished"
"""The word in the column ``outcome`` for a trial that runs or was in flight when the driver died"""

_FIRST_KNOBS = ("target", "backend", "precision", "batch", "threads")
_MEASURED = (
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p99_ms",
    "throughput_per_s",
    "cost_usd_per_million",
    "size_bytes",
    "parameters",
    "macs",
    "sparsity",
    "memory_peak_bytes",
    "load_seconds",
)
_BOUNDED = ("latency_p50_ms", "latency_p99_ms", "server_rate_per_s")


def front(run: RunData) -> frozenset[int]:
    """The numbers of the completed trials that no other dominates over the run's objectives.

    An objective that no trial measured (a cost without a price) is left out; a trial that lacks
    one of the others is not on the front.
    """
    rows = {t.number: t.measurement.values for t in run.trials if t.measurement is not None}
    columns = [c for c in run.objectives if any(c in values for values in rows.values())]
    full = {n: [v[c].value for c in columns] for n, v in rows.items() if set(columns) <= set(v)}
    if not columns or not full:
        return frozenset()
    mask = non_dominated(
        np.array(list(full.values()), dtype=np.float64),
        [run.objectives[c] == "max" for c in columns],
    )
    return frozenset(number for number, on in zip(full, mask, strict=True) if on)


def fractions(run: RunData) -> frozenset[str]:
    """The metrics of which more is better and whose values all lie in [0, 1]."""
    rows = [t.measurement.values for t in run.trials if t.measurement is not None]
    return frozenset(
        name
        for name, direction in run.metrics.items()
        if direction == "max" and all(0 <= row[name].value <= 1 for row in rows if name in row)
    )


def knobs(trials: Iterable[Trial]) -> tuple[str, ...]:
    """Every knob that is active in some trial: where and how it runs first, then by name."""
    names = {name for trial in trials for name in trial.configuration}
    return tuple(k for k in _FIRST_KNOBS if k in names) + tuple(sorted(names - set(_FIRST_KNOBS)))


def table(run: RunData) -> pd.DataFrame:
    """One row a trial, in the order of their numbers.

    Columns: ``trial``, ``outcome``, ``reason``, ``origin``, ``on_front``, ``knob.<name>`` (missing
    where inactive), the metrics with ``_low`` and ``_high``, latencies (ms), throughput, cost,
    sizes (bytes), ``parameters``, ``macs`` (multiply-accumulates of one sample), ``sparsity`` (the
    share of weights that are zero), ``load_seconds``, whatever else was measured,
    ``stage_seconds`` (the sum over the trial's stages, shared ones included).
    """
    best = front(run)
    data: dict[str, pd.Series[Any]] = {
        "trial": pd.Series([t.number for t in run.trials], dtype="int64"),
        "outcome": _text([t.outcome.word if t.outcome else UNFINISHED for t in run.trials]),
        "reason": _text([t.outcome.reason if t.outcome else "" for t in run.trials]),
        "origin": _text([t.origin for t in run.trials]),
        "on_front": pd.Series([t.number in best for t in run.trials], dtype="bool"),
    }
    for name in knobs(run.trials):
        data[f"knob.{name}"] = _knob([t.configuration.get(name) for t in run.trials])
    data |= _measured(run)
    seconds = [sum(t.stage_seconds.values()) for t in run.trials]
    data["stage_seconds"] = pd.Series(seconds, dtype="float64")
    return pd.DataFrame(data)


def write_tables(run: RunData, folder: Path) -> None:
    """Write ``trials.parquet``, ``trials.csv`` and ``pareto.csv``; each is whole or not there.

    Raises:
        MachineError: The disk is full.
    """
    rows = table(run)
    best = rows[rows["on_front"]]
    _atomically(folder / "trials.parquet", lambda path: rows.to_parquet(path, index=False))
    _atomically(folder / "trials.csv", lambda path: rows.to_csv(path, index=False))
    _atomically(folder / "pareto.csv", lambda path: best.to_csv(path, index=False))


def _measured(run: RunData) -> Mapping[str, pd.Series[Any]]:
    values = [t.measurement.values if t.measurement else {} for t in run.trials]
    known = (*run.metrics, *(c for c in _MEASURED if c not in run.metrics))
    more = sorted({column for row in values for column in row} - set(known))
    data: dict[str, pd.Series[Any]] = {}
    for column in (*known, *more):
        found = [row.get(column) for row in values]
        data[column] = _numbers([e.value if e else None for e in found])
        if column in run.metrics or column in _BOUNDED:
            data[f"{column}_low"] = _numbers([e.low if e else None for e in found])
            data[f"{column}_high"] = _numbers([e.high if e else None for e in found])
    return data


def _numbers(values: list[float | None]) -> pd.Series[Any]:
    return pd.Series(values, dtype="float64")


def _text(values: list[str]) -> pd.Series[Any]:
    return pd.Series(values, dtype="str")


def _knob(values: list[Scalar | None]) -> pd.Series[Any]:
    """A knob's column in the narrowest type that holds its values; a mixed one becomes text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    if kinds == {int}:
        return pd.Series(values, dtype="Int64")
    if kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    return pd.Series([None if value is None else str(value) for value in values], dtype="str")


def _atomically(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with disk.room(path.parent, temporary, "--out"):
            write(temporary)
            disk.flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
