"""The answer of a run, in a sentence and a few figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autotune.report.words import Measure, amount, difference, grouped, measures, number, scenario
from autotune.runfolder import RunData, front
from autotune.runfolder.profiles import baseline
from autotune.trial import Estimate, Trial


@dataclass(frozen=True)
class Figure:
    """One number of the answer, what it was for the baseline, and its 95 % interval."""

    label: str
    value: str
    interval: str = ""
    against: str = ""


@dataclass(frozen=True)
class Headline:
    """What the run found.

    Attributes:
        answer: The sentence.
        detail: What stands behind it, one or two sentences.
        trial: The trial that is the answer, or nearest to it; None where there is none.
        figures: Its numbers.
        configuration: Its knobs, by section.
        checks: The limits as they were checked when it was picked.
    """

    answer: str
    detail: str = ""
    trial: int | None = None
    figures: tuple[Figure, ...] = ()
    configuration: Mapping[str, Mapping[str, str]] | None = None
    checks: tuple[Mapping[str, Any], ...] = ()


def headline(run: RunData) -> Headline:
    """The pick under the limits; where there is none, why, and how far the run came."""
    done = [t for t in run.trials if t.measurement is not None]
    if not done:
        return Headline("No trial has completed.", "What stopped the others is listed below.")
    if run.pick is None:
        count = len(front(run))
        return Headline(
            f"{count} {'configuration is' if count == 1 else 'configurations are'} on the front.",
            "No limits were set, so none of them is picked. Set limits below to see the best one"
            " under them.",
        )
    picked = next((t for t in done if t.number == run.pick.get("trial")), None)
    if picked is None:
        return Headline(
            "No configuration meets the limits.",
            str(run.pick.get("message") or "The nearest misses are found by loosening a limit."),
            checks=tuple(run.pick.get("checks") or ()),
        )
    return _picked(run, picked)


def _picked(run: RunData, trial: Trial) -> Headline:
    reference = baseline(run, trial)
    found = measures(run)
    return Headline(
        answer=_answer(run, trial, reference, found),
        detail=_detail(run, trial),
        trial=trial.number,
        figures=tuple(_figures(trial, reference, found)),
        configuration=grouped(trial.configuration),
        checks=tuple(run.pick.get("checks") or ()) if run.pick else (),
    )


def _answer(run: RunData, trial: Trial, reference: Trial | None, found: tuple[Measure, ...]) -> str:
    if trial.origin == "baseline":
        return "Under these limits nothing beats the model as given."
    here, there = _values(trial), _values(reference)
    faster = _faster(run, here, there)
    if not faster:
        return f"Trial {trial.number} is the best under the limits."
    parts = [faster]
    metric = next((m for m in found if m.column in run.metrics), None)
    if metric is not None and metric.column in here and metric.column in there:
        change = here[metric.column].value - there[metric.column].value
        told = difference(change, metric)
        parts.append(f"{'at' if told.startswith('equal') else 'with'} {told}")
    return ", ".join(parts) + "."


def _faster(run: RunData, here: Mapping[str, Estimate], there: Mapping[str, Estimate]) -> str:
    """How much faster than the baseline, in words; "" where that is not known."""
    figure = scenario(run).figure
    mine, given = here.get(figure.column), there.get(figure.column)
    if mine is None or given is None or not (mine.value and given.value):
        return ""
    if figure.direction == "min":
        return f"{number(given.value / mine.value, 2)} times faster than the model as given"
    what = "requests" if figure.word == "server_rate" else "samples"
    return f"{number(mine.value / given.value, 2)} times the {what} a second of the model as given"


def _detail(run: RunData, trial: Trial) -> str:
    limits = f", picked under: {'; '.join(run.slo)}" if run.slo else " is the pick"
    batch = trial.configuration.get("batch")
    at = "" if batch is None else f" Compared with the model as given at batch {batch}."
    if scenario(run).kind == "server":
        at = " Compared with the model as given, each request answered by itself."
    picked = run.pick or {}
    doubts = [f"Beware: {warning}." for warning in picked.get("warnings") or ()]
    parts = [f"Trial {trial.number}{limits}.{at}", picked.get("message"), *doubts]
    return " ".join(str(part) for part in parts if part)


def _figures(trial: Trial, reference: Trial | None, found: tuple[Measure, ...]) -> Iterator[Figure]:
    here, there = _values(trial), _values(reference)
    compare = reference is not None and reference.number != trial.number
    for measure in found:
        if measure.column in here and measure.column not in _ASIDE:
            estimate = here[measure.column]
            given = there.get(measure.column) if compare else None
            yield Figure(
                measure.label,
                amount(estimate.value, measure.unit),
                _interval(estimate, measure.unit),
                amount(given.value, measure.unit) if given else "",
            )


_ASIDE = ("latency_p90_ms", "load_seconds", "mean_batch", "memory_peak_bytes", "sparsity")


def _interval(estimate: Estimate, unit: str) -> str:
    """``0.377 to 0.385 ms``; an end that the samples cannot tell is ``unknown``."""
    if estimate.low is None and estimate.high is None:
        return ""
    low = "unknown" if estimate.low is None else amount(estimate.low, unit)
    high = "unknown" if estimate.high is None else amount(estimate.high, unit)
    shared = low.partition(" ")[2] if unit != "bytes" else ""
    short = low.partition(" ")[0] if shared and high.endswith(f" {shared}") else low
    return f"{short} to {high}"


def _values(trial: Trial | None) -> Mapping[str, Estimate]:
    return trial.measurement.values if trial is not None and trial.measurement is not None else {}
