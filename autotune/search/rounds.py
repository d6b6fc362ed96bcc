"""The rounds of a confirmation put together: what they tell as one measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autotune.engine.execute import Result
from autotune.engine.lane import SAMPLES
from autotune.measure import statistics
from autotune.scenario import Kind
from autotune.search.outcome import columns
from autotune.store.artifacts import Store
from autotune.trial import Estimate

Columns = dict[str, Estimate]
RATE = "server_rate_per_s"
ENERGY = "energy_mj_per_sample"


def decided(result: Result) -> bool:
    """Whether a round tells anything: the time of a server's may be up before it found a rate."""
    served = result.facts.get("server", {})
    return served.get("ended") != "time" or served.get("rate_per_s") is not None


def joined(
    rounds: Sequence[Result], kind: Kind, batch: int, store: Store
) -> tuple[Columns, dict[str, Any]]:
    """What the rounds measured together, and the facts of it."""
    beside, energy = _beside([result.facts for result in rounds]), _energy(rounds)
    if kind == "server":
        ordered = sorted(rounds, key=lambda result: columns(result)[RATE].value)
        middle = ordered[(len(ordered) - 1) // 2]
        return {**_served(middle, ordered), **energy}, {**beside, "server": middle.facts["server"]}
    streams = np.concatenate([_samples(result, store) for result in rounds])
    found = statistics.latency_columns(streams, batch)
    if kind == "offline":
        found = {"throughput_per_s": found["throughput_per_s"]}
    return {**found, **energy}, beside


def _energy(rounds: Sequence[Result]) -> Columns:
    """The median of those rounds in which it could be told."""
    told = [columns(result)[ENERGY].value for result in rounds if ENERGY in columns(result)]
    return {ENERGY: Estimate(float(np.median(told)))} if told else {}


def _served(middle: Result, rounds: Sequence[Result]) -> Columns:
    """The round of the median rate (of two the lower one); the rate's interval spans them all."""
    told = columns(middle)
    kept = {c: e for c, e in told.items() if c.startswith("latency_") or c == "mean_batch"}
    rates = [columns(result)[RATE] for result in rounds]
    lows = [rate.value if rate.low is None else rate.low for rate in rates]
    highs = [rate.high for rate in rates if rate.high is not None]
    high = max(highs) if len(highs) == len(rates) else None
    return {RATE: Estimate(told[RATE].value, min(lows), high), **kept}


def _samples(result: Result, store: Store) -> Any:
    folder = store.open(result.key)
    if folder is None:
        raise ValueError(f"the samples of {result.key} left the store")
    return np.load(folder / SAMPLES)


def _beside(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What went on beside the rounds that count."""
    waited = [r["run_queue_share"] for r in rounds if r.get("run_queue_share") is not None]
    return {
        "noisy": any(r["noisy"] for r in rounds),
        **{k: sum(r[k] for r in rounds) for k in ("samples", "blocks", "disturbed_blocks")},
        "retries": sum(r["retries"] for r in rounds),
        "reference_ms": float(np.median([r["reference_ms"] for r in rounds])),
        "reference_ratio": float(np.median([r["reference_ratio"] for r in rounds])),
        "run_queue_share": float(np.mean(waited)) if waited else None,
    }
