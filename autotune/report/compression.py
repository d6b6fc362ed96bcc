"""What each compression setting did, told against the trial that differs in it alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autotune.report.siblings import Pair, Siblings
from autotune.report.words import Measure, difference, measures, number
from autotune.runfolder import RunData
from autotune.scenario import MAX_BATCH
from autotune.trial import Estimate, Trial

P50, RATE = "latency_p50_ms", "server_rate_per_s"
_EVEN = 0.98
"""A time of this share of the sibling's, or more, is no gain, whatever its interval."""


@dataclass(frozen=True)
class Effect:
    """What one setting did in one place; its sibling is the same trial without it.

    Attributes:
        setting: ``prune channel, ratio 0.5``.
        place: Where it was seen: ``onnxruntime int8, batch 1``.
        trial, sibling: The two that are compared.
        parameters, macs, size: Change as a share of the sibling's; None where it is not known.
        accuracy: Change of the run's first metric; None where it is not known.
        latency: The time of a request over the sibling's: of their p50; at a server's highest rates
            of one over them. None where it is not known.
        sentence: What came of it.
    """

    setting: str
    place: str
    trial: int
    sibling: int
    parameters: float | None
    macs: float | None
    size: float | None
    accuracy: float | None
    latency: Estimate | None
    sentence: str


def metric(run: RunData) -> Measure | None:
    """The metric whose change is told: the run's first."""
    return next((m for m in measures(run) if m.column in run.metrics), None)


def pace(run: RunData) -> str:
    """What ``Effect.latency`` is a ratio of, as a column's head."""
    served = any(RATE in _values(trial) for trial in run.trials)
    return "Time per request" if served else "Latency p50"


def effects(run: RunData) -> tuple[Effect, ...]:
    """Every distinct setting on every target and backend where it has a sibling.

    Of several pairs the plainest stands for all: with the fewest other compressions, then of the
    smallest batch, then the first.
    """
    siblings = Siblings(run)
    found: dict[tuple[str, ...], list[Pair]] = defaultdict(list)
    for family, pair in siblings.pairs():
        where = [str(pair[0].configuration.get(name, "")) for name in ("target", "backend")]
        found[family, siblings.setting(pair[0], family), *where].append(pair)
    keys = sorted(found, key=siblings.order)
    return tuple(_effect(siblings, key[0], found[key], metric(run)) for key in keys)


def alone(run: RunData) -> tuple[str, ...]:
    """Settings of completed trials from which no other trial differs in them alone."""
    siblings = Siblings(run)
    told = {(f, siblings.setting(pair[0], f)) for f, pair in siblings.pairs()}
    every = {
        (family, siblings.setting(trial, family))
        for family in siblings.families
        for trial in siblings.done
        if siblings.active(trial, family)
    }
    return tuple(setting for _, setting in sorted(every - told, key=siblings.order))


def gained(latency: Estimate) -> bool:
    """Whether a ratio of latencies tells of speed: below 1, by more than its interval and 2 %."""
    return latency.value < _EVEN and (latency.high is None or latency.high < 1)


def _effect(
    siblings: Siblings, family: str, pairs: Sequence[Pair], judge: Measure | None
) -> Effect:
    trial, sibling = min(
        pairs, key=lambda p: (len(siblings.others(p[0], family)), _batch(p[0]), p[0].number)
    )
    here, there = _values(trial), _values(sibling)
    latency = _ratio(trial, sibling)
    told = [_speed(family, trial, sibling, latency)]
    change = None
    if judge is not None and judge.column in here and judge.column in there:
        change = here[judge.column].value - there[judge.column].value
        told.append(difference(change, judge))
    return Effect(
        setting=siblings.setting(trial, family),
        place=_place(siblings, trial, family),
        trial=trial.number,
        sibling=sibling.number,
        parameters=_change(here, there, "parameters"),
        macs=_change(here, there, "macs"),
        size=_change(here, there, "size_bytes"),
        accuracy=change,
        latency=latency,
        sentence="; ".join([*told, *_span(pairs)]) + ".",
    )


# ---- words ---------------------------------------------------------------------------------------


def _speed(family: str, trial: Trial, sibling: Trial, latency: Estimate | None) -> str:
    """What became of the speed; of zeros that no shape tells of, whether the runtime made use."""
    served = RATE in _values(trial)
    if latency is None:
        return f"The {'rate' if served else 'latency'} of one of the two is not known"
    backend = trial.configuration.get("backend", "this backend")
    noun = "time per request" if served else "latency"
    against = f"{number(latency.value)}x the {noun} of {_plain(family, sibling)}"
    zeros = _zeros(_values(trial), _values(sibling))
    if zeros is not None:
        kind = str(trial.configuration.get("prune.structure", family)).capitalize()
        what = f"{kind} sparsity of {zeros * 100:.0f} %"
        if gained(latency):
            return f"{what} brought speed on {backend}: {against}"
        return f"{what} brought no speed on {backend}: {against}; it runs zeros as any other weight"
    if gained(latency):
        return f"{number(1 / latency.value)} times faster than {_plain(family, sibling)}"
    slower = latency.low is not None and latency.low > 1 and latency.value > 1 / _EVEN
    return f"{'Slower' if slower else 'No speed'} on {backend}: {against}"


def _plain(family: str, sibling: Trial) -> str:
    given = {
        "student": "the given network",
        "prune": "the dense network",
        "server": "a request by itself",
    }
    if family == "precision":
        return str(sibling.configuration.get("precision", "the same without it"))
    return given.get(family, "the same without it")


def _span(pairs: Sequence[Pair]) -> list[str]:
    """From where to where the ratio goes, where several pairs show the setting."""
    ratios = [ratio.value for pair in pairs if (ratio := _ratio(*pair)) is not None]
    if len(ratios) < 2:
        return []
    return [f"{number(min(ratios))}x to {number(max(ratios))}x over {len(ratios)} such pairs"]


def _place(siblings: Siblings, trial: Trial, family: str) -> str:
    """``onnxruntime int8, batch 1, student width 8``."""
    settings = trial.configuration
    names = ("target", "backend", *(("precision",) if family != "precision" else ()))
    head = " ".join(str(settings[name]) for name in names if name in settings)
    shown = "batch" in settings and MAX_BATCH not in settings
    batch = [f"batch {settings['batch']}"] if shown else []
    rest = [s for s in siblings.others(trial, family) if not s.startswith("precision ")]
    return ", ".join([*([head] if head else []), *batch, *rest])


# ---- figures -------------------------------------------------------------------------------------


def _time_ms(trial: Trial) -> Estimate | None:
    """What a request takes: the p50, or a server's time for each of as many as it can take."""
    rate = _values(trial).get(RATE)
    if rate is None:
        return _values(trial).get(P50)
    if not rate.value:
        return None
    low, high = (1e3 / bound if bound else None for bound in (rate.high, rate.low))
    return Estimate(1e3 / rate.value, low, high)


def _ratio(trial: Trial, sibling: Trial) -> Estimate | None:
    """The trial's time over its sibling's, with a 95 % interval from theirs, as if independent.

    In logarithms the bounds of a difference follow from both intervals by MOVER (Zou and Donner,
    Statistics in Medicine 27, 2008).
    """
    one, other = _time_ms(trial), _time_ms(sibling)
    if one is None or other is None or min(one.value, other.value) <= 0:
        return None
    value = one.value / other.value
    bounds = [b for b in (one.low, one.high, other.low, other.high) if b is not None and b > 0]
    if len(bounds) < 4:
        return Estimate(value)
    low, high, other_low, other_high = (math.log(bound) for bound in bounds)
    at, other_at = math.log(one.value), math.log(other.value)
    down = math.hypot(at - low, other_high - other_at)
    up = math.hypot(high - at, other_at - other_low)
    return Estimate(value, value * math.exp(-down), value * math.exp(up))


def _zeros(here: Mapping[str, Estimate], there: Mapping[str, Estimate]) -> float | None:
    """The share of zero weights where they were made in place: more zeros for the same work."""
    if any(column not in values for values in (here, there) for column in ("sparsity", "macs")):
        return None
    more = here["sparsity"].value - there["sparsity"].value > 0.01
    same = math.isclose(here["macs"].value, there["macs"].value, rel_tol=1e-6)
    return here["sparsity"].value if more and same else None


def _change(
    here: Mapping[str, Estimate], there: Mapping[str, Estimate], column: str
) -> float | None:
    if column not in here or column not in there or there[column].value == 0:
        return None
    return here[column].value / there[column].value - 1


def _batch(trial: Trial) -> float:
    batch = trial.configuration.get("batch", 0)
    return 0.0 if isinstance(batch, str) else float(batch)


def _values(trial: Trial) -> Mapping[str, Estimate]:
    return trial.measurement.values if trial.measurement is not None else {}
