"""Where the time of a request goes: the answer's operators beside its baseline's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autotune.measure.reference import WAITED
from autotune.profile import Operation, Profile
from autotune.report.words import number
from autotune.roofline import PEAKS, floor_ms
from autotune.runfolder import RunData
from autotune.runfolder.profiles import compared, failures, profiles
from autotune.trial import Trial

DIFFERS = 0.1
"""A request that took so much more or less time than when its trial was measured is remarked on."""
AROUND = "around the operators"
_FAMILIES = tuple(
    (family, re.compile(words))
    for family, words in {
        "convolution": r"conv(?!ert)",
        "recurrence": r"lstm|gru|rnn",
        "attention": r"attention|^mha",
        "matrix product": r"matmul|gemm|addmm|bmm|::mm$|_mm$|fullyconnected|[:_]linear|"
        r"qlinear_pointwise|nbits",
        "conversion and layout": r"quantize|reorder|transpose|permute|cast|convert|contiguous|"
        r"::to$|copy|clone",
        "normalisation": r"norm|^mvn",
        "activation": r"relu|gelu|selu|elu$|sigmoid|softmax|tanh|swish|silu|clip|clamp|erf$",
        "pooling and reduction": r"pool|mean|sum$|reduce",
        "element-wise": r"add|mul|div|sub|eltwise|pow|sqrt|where|maximum|minimum|subgraph",
        "a compiled graph": r"made by|torchscript",
        "shapes and copies": r"shape|view|slice|concat|::cat$|split|gather|embedding|squeeze|"
        r"flatten|pad|expand",
    }.items()
)
"""What an operator does, by its name in any of the runtimes; the first that fits."""


@dataclass(frozen=True)
class Side:
    """One of the trials that are compared.

    Attributes:
        title: Who it is: ``the model as given``, ``the pick``.
        runs: The backend and the precision that were asked for.
        trial: Its number.
        profile: What its runtime's profiler saw.
        told: What the figures add up to, and what the profiler did to them, in sentences.
    """

    title: str
    runs: str
    trial: int
    profile: Profile
    told: tuple[str, ...]


def sides(run: RunData) -> tuple[Side, ...]:
    """The profiles of the run's answer and of its baseline, as far as they were taken."""
    known = profiles(run)
    return tuple(_side(run, t, known[t.number]) for t in compared(run) if t.number in known)


def missing(run: RunData) -> tuple[str, ...]:
    """Why a trial that should be shown could not be profiled."""
    known, failed = profiles(run), failures(run)
    numbers = [trial.number for trial in compared(run)]
    return tuple(
        f"Trial {n} could not be profiled: {failed[n]}"
        for n in numbers
        if n in failed and n not in known
    )


def chart(found: Sequence[Side]) -> dict[str, Any] | None:
    """What the page draws: kinds of work by their time on any side, and each side's bars."""
    if not found:
        return None
    work = [_families(side.profile) for side in found]
    most = {f: max(_ms(w.get(f, ())) for w in work) for f in {f for w in work for f in w}}
    families = sorted(most, key=lambda f: (f == AROUND, -most[f]))
    return {
        "families": families,
        "sides": [
            {
                "title": f"{side.title}: {side.runs} (trial {side.trial})",
                "ms": [_ms(w.get(f, ())) for f in families],
                "label": [_label(w.get(f, ())) for f in families],
                "about": [[_about(row) for row in w.get(f, ())] for f in families],
            }
            for side, w in zip(found, work, strict=True)
        ],
    }


def sentences(profile: Profile, measured_ms: float | None = None) -> tuple[str, ...]:
    """What a profile adds up to, beside the request without the profiler, in words.

    Args:
        profile: What was seen.
        measured_ms: The p50 that the trial was measured with, of such requests; None: of none.
    """
    told = [
        f"The operators add up to {number(profile.total_ms)} ms of a request that takes "
        f"{number(profile.wall_ms)} ms under the profiler (mean of {profile.requests})."
    ]
    if not profile.total_ms:
        told = [
            "The profiler tells no operator: each takes less than it counts. A request takes "
            f"{number(profile.wall_ms)} ms under it (mean of {profile.requests})."
        ]
    bare, overhead = profile.bare_ms, profile.overhead
    if bare is not None and overhead is not None:
        trial = "" if measured_ms is None else f"; its trial measured {number(measured_ms)} ms"
        told.append(
            f"Without the profiler it takes {number(bare)} ms (p50, just before{trial}); "
            f"under it {_percent(abs(overhead))} {'more' if overhead >= 0 else 'less'}."
        )
        if measured_ms and abs(bare / measured_ms - 1) > DIFFERS:
            faster = "slower" if bare > measured_ms else "faster"
            told.append(
                f"That is {_percent(abs(bare / measured_ms - 1))} {faster} than when the trial was "
                "measured, so read the shares and not the milliseconds."
            )
    if (profile.waited or 0.0) > WAITED:
        told.append(
            "Something else ran beside the profiler: for "
            f"{_percent(profile.waited or 0.0)} of its time the process waited for a core."
        )
    return tuple(told)


def told(run: RunData, trial: Trial, profile: Profile) -> tuple[str, ...]:
    """What the profile of a trial adds up to; on a GPU, against the least time it could take."""
    floor = _floor_ms(run, trial)
    if floor is None:
        return sentences(profile, measured(trial))
    kernels = math.fsum(row.ms for row in profile.rows if not row.operator.startswith("Mem"))
    return (
        *sentences(profile, measured(trial)),
        f"Its kernels take {number(kernels)} ms, {number(kernels / floor)} times the roofline floor"
        f" of {number(floor)} ms: what its operations take at the GPU's peak, or its weights from "
        "memory.",
    )


def _floor_ms(run: RunData, trial: Trial) -> float | None:
    """Of a request of a trial on a GPU whose peaks are known, where its work is."""
    knobs, values = trial.configuration, trial.measurement.values if trial.measurement else {}
    targets = run.environment.get("targets", {})
    target = targets.get(str(knobs.get("target", next(iter(targets), ""))), {})
    peak = PEAKS.get((target.get("gpu") or {}).get("name", ""))
    if peak is None or not {"macs", "parameters_read"} <= set(values):
        return None
    precision = "tf32" if knobs.get(f"{knobs['backend']}.tf32") else str(knobs["precision"])
    macs = values["macs"].value * float(knobs["batch"])
    return floor_ms(peak, precision, macs, values["parameters_read"].value)


def measured(trial: Trial) -> float | None:
    """The trial's p50, where that is of one request after the other, as a profile is."""
    found = trial.measurement
    if found is None or found.facts.get("scenario", "single_stream") != "single_stream":
        return None
    p50 = found.values.get("latency_p50_ms")
    return None if p50 is None else p50.value


def title(run: RunData, trial: Trial) -> str:
    """Who a trial is among those that are compared."""
    if trial.origin == "baseline":
        return "The model as given"
    picked = (run.pick or {}).get("trial")
    if trial.number == picked:
        return "The pick"
    return "The fastest of the front" if trial in compared(run) else "As asked"


def family(operator: str) -> str:
    """What an operator does, in a word that holds for every runtime."""
    word = operator.lower()
    return next((name for name, words in _FAMILIES if words.search(word)), "other")


def _side(run: RunData, trial: Trial, profile: Profile) -> Side:
    knobs = trial.configuration
    runs = f"{knobs.get('backend')} {knobs.get('precision')}"
    words = told(run, trial, profile)
    return Side(title(run, trial), runs, trial.number, profile, words)


def _families(profile: Profile) -> Mapping[str, list[Operation]]:
    """The operators by what they do; what a request takes beside them, where that is known."""
    found: dict[str, list[Operation]] = {}
    for row in profile.operators():
        found.setdefault(family(row.operator), []).append(row)
    rest = 0.0 if profile.bare_ms is None else profile.bare_ms - profile.total_ms
    if rest > 0:
        found[AROUND] = [
            Operation("the call, its arguments, the runtime's scheduling", "", "", rest)
        ]
    return found


def _ms(rows: Sequence[Operation]) -> float:
    return math.fsum(row.ms for row in rows)


def _label(rows: Sequence[Operation]) -> str:
    """The time with the precisions that take it, the longest first: ``0.21 ms  int8, fp32``."""
    if not rows:
        return "none"
    words = dict.fromkeys(row.precision for row in rows if row.precision)
    return f"{number(_ms(rows))} ms  {', '.join(words)}".rstrip()


def _about(row: Operation) -> str:
    calls = "" if row.calls == 1 else f", {row.calls:g} calls"
    return f"{row.operator} {row.precision}".rstrip() + f": {number(row.ms)} ms{calls}"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.{0 if abs(percent) >= 10 else 1}f} %"
