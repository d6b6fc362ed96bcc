"""The fixed part of the file turned into values: everything but the space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune import plugins
from autotune import slo as slos
from autotune.errors import SpecError
from autotune.hardware import accelerators, machine, usual_lane
from autotune.slo import QUANTITIES, SLO, Direction
from autotune.spec import refs
from autotune.spec.marks import Document
from autotune.spec.model import UNLIMITED, File, MetricSection, TargetSection
from autotune.spec.scenario import OBJECTIVES
from autotune.spec.values import Budget, MetricRef
from autotune.spec.words import unknown
from autotune.target import Gpu, Target
from autotune.task import ModelSource

PRESETS: Mapping[str, tuple[int, float]] = {
    "quick": (24, 120.0),
    "default": (64, 600.0),
    "extensive": (256, 3600.0),
}
"""Trials and seconds of each preset."""


def model(file: File, folder: Path, document: Document) -> ModelSource:
    """The model as given, its files found beside the space file."""
    given = file.model
    if given.onnx is not None:
        onnx = refs.file(given.onnx, folder, document, ("model", "onnx"))
        return ModelSource(onnx=str(onnx), output=given.output)
    weights = None
    if given.weights is not None:
        weights = str(refs.file(given.weights, folder, document, ("model", "weights")))
    factory = refs.code(given.factory or "", folder, document, ("model", "factory"))
    train = None
    if given.train is not None:
        train = refs.code(given.train, folder, document, ("model", "train"))
    return ModelSource(factory, dict(given.args), weights, output=given.output, train=train)


def metrics(file: File, folder: Path, document: Document) -> dict[str, MetricRef]:
    """The metrics by the user's words."""
    return {word: _metric(m, word, folder, document) for word, m in file.metrics.items()}


def targets(file: File, document: Document) -> tuple[Target, ...]:
    """The targets, cut from the machine as it is; a lane has half of its cores by default."""
    return tuple(_target(name, section, document) for name, section in file.targets.items())


def objectives(
    file: File, known: Mapping[str, MetricRef], document: Document, *, priced: bool
) -> dict[str, Direction]:
    """What is traded off, by word. The cost is not among them where no price is given."""
    directions = _directions(known)
    first = next(iter(known))
    ours = {word: QUANTITIES[word].direction for word in OBJECTIVES[file.scenario]}
    given = file.objectives or {first: directions[first], **ours}
    for word, direction in given.items():
        found = slos.quantity(word, directions)
        where = ("objectives", word)
        if found is None:
            raise _unknown_objective(document, word, known)
        if found.direction != direction:
            raise document.error(
                where,
                f"'{word}: {direction}' asks for a worse {word}",
                f"write {word}: {found.direction}",
            )
    kept = {word: direction for word, direction in given.items() if priced or word != "cost"}
    if not kept:
        raise document.error(
            ("objectives",), "cost is the only objective and no price is given", _PRICE
        )
    return kept


def columns(words: Mapping[str, Direction], known: Mapping[str, MetricRef]) -> dict[str, Direction]:
    """Objectives by their column of the trials table."""
    directions = _directions(known)
    found = {word: slos.quantity(word, directions) for word in words}
    return {q.column: q.direction for q in found.values() if q is not None}


def slo(file: File, known: Mapping[str, MetricRef], document: Document, *, priced: bool) -> SLO:
    """The limits of the file and what is optimised under them."""
    directions = _directions(known)
    for index, sentence in enumerate(file.slo):
        where = ("slo", index)
        one = slos.parse([(sentence, document.place(where))], directions)
        about = [limit.quantity.word for limit in one.limits]
        about += [one.objective.word] if one.objective else []
        if "cost" in about and not priced:
            raise document.error(where, f"'{sentence}' needs a price and none is given", _PRICE)
    places = {sentence: document.place(("slo", i)) for i, sentence in enumerate(file.slo)}
    found = slos.parse(places.items(), directions)
    slos.sensible(found, {word for word, metric in known.items() if _fraction(metric)}, places)
    return found


def _fraction(metric: MetricRef) -> bool:
    return isinstance(metric.name, str) and plugins.load("metrics", metric.name).fraction


def budget(file: File) -> Budget:
    """When the search ends; the preset says what the file does not."""
    trials, seconds = PRESETS[file.preset]
    time = file.budget.time if file.budget.time is not None else seconds
    return Budget(file.budget.trials or trials, None if math.isinf(time) else time)


def plain(
    model: ModelSource,
    known: Mapping[str, MetricRef],
    targets: tuple[Target, ...],
    budget: Budget,
) -> dict[str, Any]:
    """The same values in the words of the file, defaults written out."""
    return {
        "model": _plain_model(model),
        "metrics": {
            word: {"metric": str(m.name), "direction": m.direction} for word, m in known.items()
        },
        "targets": {target.name: _plain_target(target) for target in targets},
        "budget": {"trials": budget.trials, "time": budget.seconds or UNLIMITED},
    }


_COLUMNS = frozenset(
    [
        *("trial", "outcome", "reason", "origin", "on_front", "baseline", "stage_seconds"),
        *(quantity.column for quantity in QUANTITIES.values()),
        *("latency_mean_ms", "memory_peak_bytes", "load_seconds"),
        *("device_memory_peak_bytes", "energy_mj_per_sample"),
        *("parameters", "parameters_read", "macs", "sparsity"),
    ]
)
_BOUNDS = ("_low", "_high", "_drop")
_PRICE = "give targets.<name>.price_per_hour for every target"


def _unknown_objective(document: Document, word: str, known: Mapping[str, MetricRef]) -> SpecError:
    where, words = ("objectives", word), [*known, *QUANTITIES]
    error = unknown(document, where, "objective", word, words)
    if error.remedy.startswith("did you mean"):
        return error
    remedy = f"declare it under metrics:, or take one of {', '.join(words)}"
    return document.error(where, f"{error.cause}: it is not among the metrics", remedy)


def _directions(known: Mapping[str, MetricRef]) -> dict[str, Direction]:
    return {word: metric.direction for word, metric in known.items()}


def _metric(given: MetricSection, word: str, folder: Path, document: Document) -> MetricRef:
    where = ("metrics", word)
    if word in QUANTITIES or not word.isidentifier():
        taken = "is measured already" if word in QUANTITIES else "is not one word"
        raise document.error(where, f"a metric called '{word}' {taken}", "give it another name")
    if word in _COLUMNS or word.endswith(_BOUNDS):
        cause = f"a metric called '{word}' would stand where the tables have another column"
        raise document.error(where, cause, "give it another name")
    inner = (*where, "metric") if isinstance(document.at(where), dict) else where
    if refs.looks_like_code(given.metric):
        if given.direction is None:
            raise document.error(
                where,
                f"the metric '{word}' does not say which direction is better",
                f"write {word}: {{metric: {given.metric}, direction: max}} (or min)",
            )
        return MetricRef(refs.code(given.metric, folder, document, inner), given.direction)
    if given.metric not in plugins.names("metrics"):
        raise unknown(document, inner, "metric", given.metric, plugins.names("metrics"))
    direction = plugins.load("metrics", given.metric).direction
    if given.direction not in (None, direction):
        raise document.error(
            (*where, "direction"),
            f"the better direction of {given.metric} is {direction}, not {given.direction}",
            f"write direction: {direction}, or leave it out",
        )
    return MetricRef(given.metric, direction)


def _target(name: str, section: TargetSection, document: Document) -> Target:
    here = machine()
    cores = len(here.cores)
    lane = section.lane_cores or usual_lane(here)
    if lane * section.lanes > cores:
        key = "lane_cores" if lane > cores else "lanes"
        asked = f"{section.lanes} x {lane}" if section.lanes > 1 else str(lane)
        raise document.error(
            ("targets", name, key),
            f"the lanes ask for {asked} cores and this machine has {cores}",
            f"lower {key}: lanes times lane_cores is at most {cores}",
        )
    gpu = None if section.gpu is None else _gpu(name, section, document)
    return Target(name, lane, section.lanes, section.price_per_hour, here, gpu)


def _gpu(name: str, section: TargetSection, document: Document) -> Gpu:
    """The GPU of a target.

    Raises:
        SpecError: It is not there (why, and what would help), or it is to be shared.
    """
    found = accelerators()
    where = ("targets", name, "gpu")
    if not found.gpus:
        raise document.error(
            where, f"target '{name}' asks for a GPU: {found.missing}", found.remedy
        )
    gpu = next((gpu for gpu in found.gpus if gpu.index == section.gpu), None)
    if gpu is None:
        known = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in found.gpus)
        raise document.error(where, f"this machine has no GPU {section.gpu}", f"known: {known}")
    if section.lanes != 1:
        cause = f"a GPU is one lane, and target '{name}' asks for {section.lanes}"
        raise document.error(("targets", name, "lanes"), cause, "give each GPU a target of its own")
    return gpu


def _plain_model(model: ModelSource) -> dict[str, Any]:
    if model.onnx is not None:
        return {"onnx": model.onnx, "output": model.output}
    given = {"weights": model.weights, "train": model.train and str(model.train)}
    rest = {key: value for key, value in given.items() if value}
    args = dict(model.args)
    return {"factory": str(model.factory), "args": args, **rest, "output": model.output}


def _plain_target(target: Target) -> dict[str, Any]:
    price = target.price_per_hour
    lanes: dict[str, Any] = {"lane_cores": target.lane_cores, "lanes": target.lanes}
    if target.gpu is not None:
        lanes["gpu"] = target.gpu.index
    return lanes if price is None else {**lanes, "price_per_hour": price}
