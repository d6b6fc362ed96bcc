"""Above which latency a measurement may be given up, because another trial is better in everything.

Only where the accuracy of the configuration is known already (its artifact was judged for another
batch or thread count, or in an earlier session), so that nothing is guessed. The limit is no part
of the stage's key: a race that is won is the full measurement, one that is lost is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from autotune.artifact import Stage
from autotune.engine.execute import Result
from autotune.engine.graph import Handle
from autotune.engine.lane import RACE
from autotune.slo import Direction
from autotune.trial import Measurement, Stopped, Trial

MARGIN = 1.25
"""A rival counts as so much slower than it was measured: it may have been lucky."""
_QUANTILES = ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms")
_OF_THE_MEAN = ("throughput_per_s", "cost_usd_per_million")


@dataclass(frozen=True)
class Race:
    """A limit on the median latency, and the trial that is better than whatever lies above it."""

    above_ms: float
    rival: int


def race(
    known: Mapping[str, float],
    batch: int,
    rivals: Iterable[Trial],
    objectives: Mapping[str, Direction],
) -> Race | None:
    """The lowest limit that decides; None where no trial can decide it.

    A configuration whose median is above L has a p90 and a p99 above L, and a mean above L / 2,
    whatever its latencies are distributed like. So it is dominated by a trial of the same batch
    that is no worse in what is known and has no such quantile above L, nor a mean above L / 2.

    Args:
        known: What is known of the configuration: its metrics, its size.
        batch: Samples in its requests.
        rivals: Trials on its target.
        objectives: Every column that counts, and its better direction.
    """
    found = [
        Race(above_ms, trial.number)
        for trial in rivals
        if trial.measurement is not None and trial.configuration.get("batch") == batch
        if (above_ms := _above_ms(trial.measurement, known, batch, objectives)) is not None
    ]
    return min(found, key=lambda race: race.above_ms, default=None)


def entered(latency: Stage, race: Race | None) -> Stage:
    """The stage, with the same key, which gives up where the race is lost."""
    if race is None:
        return latency
    told = {"give_up_above_ms": race.above_ms, "rival": race.rival}
    return replace(latency, hints={**latency.hints, RACE: told})


def lost(latency: Handle) -> Stopped | None:
    """The outcome of a trial whose latency lost its race; None where it did not."""
    result = latency.result
    if result is None or not result.unfinished:
        return None
    told, p50_ms = latency.stage.hints[RACE], result.facts["columns"]["latency_p50_ms"]["value"]
    above_ms = told["give_up_above_ms"]
    return Stopped(
        f"trial {told['rival']} is no less accurate and better in every other objective: the "
        f"median latency is surely above {above_ms:.4g} ms ({p50_ms:.4g} ms after "
        f"{result.facts['samples']} requests)",
        {"latency_p50_ms": p50_ms, "give_up_above_ms": above_ms},
    )


def judged(accuracy: Result) -> dict[str, float]:
    """What the accuracy's stage knows of a configuration, by column: its metrics, its sizes."""
    facts = accuracy.facts
    metrics = {column: float(told["value"]) for column, told in facts["columns"].items()}
    return {**facts["network"], **metrics, "size_bytes": float(facts["size_bytes"])}


def _above_ms(
    rival: Measurement,
    known: Mapping[str, float],
    batch: int,
    objectives: Mapping[str, Direction],
) -> float | None:
    """From which median on ``rival`` dominates; None where it never does, or that is not told."""
    limits: list[float] = []
    for column, direction in objectives.items():
        if column not in rival.values:
            return None
        theirs = rival.values[column]
        if column in known:
            sign = 1 if direction == "max" else -1
            if sign * theirs.value < sign * known[column]:
                return None
        elif column in _QUANTILES:
            limits.append(MARGIN * (theirs.value if theirs.high is None else theirs.high))
        elif column in _OF_THE_MEAN and "throughput_per_s" in rival.values:
            rate = rival.values["throughput_per_s"]
            mean_ms = 1e3 * batch / (rate.value if rate.low is None else rate.low)
            limits.append(2 * mean_ms)
        else:
            return None
    return max(limits, default=None)
