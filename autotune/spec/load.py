"""The door: a space file -> a ``Spec``."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from autotune import plugins
from autotune.errors import Infeasible, SpecError
from autotune.space import Space
from autotune.spec import faults, fixed, reader, refs
from autotune.spec.marks import Document
from autotune.spec.scenario import scenario
from autotune.spec.space import build
from autotune.spec.values import Spec
from autotune.spec.words import shown, unknown

FEW = 20_000
"""Up to so many points a space is written out to tell whether any of them can run."""


def load(path: Path, overrides: Mapping[str, object] | None = None) -> Spec:
    """The spec in ``path``. Has no effects: imports none of the user's code, writes nothing.

    Args:
        path: A YAML file.
        overrides: Dotted keys of the command line that replace what the file says, for example
            ``{"budget.trials": 8}``; one that is None counts as not given. A ``preset`` here
            replaces the file's whole budget.

    Raises:
        SpecError: The file says something that it cannot mean: place, cause and remedy.
    """
    document = _document(path, overrides or {})
    file = faults.validate(document)
    folder = path.parent.resolve()
    model = fixed.model(file, folder, document)
    data = refs.code(file.data, folder, document, ("data",))
    metrics = fixed.metrics(file, folder, document)
    targets = fixed.targets(file, document)
    priced = all(target.price_per_hour is not None for target in targets)
    objectives = fixed.objectives(file, metrics, document, priced=priced)
    slo = fixed.slo(file, metrics, document, priced=priced)
    if file.sampler not in plugins.names("samplers"):
        raise unknown(document, ("sampler",), "sampler", file.sampler, plugins.names("samplers"))
    load_scenario = scenario(file.scenario, slo, objectives, document)
    built = build(document, model, targets, file.scenario)
    _feasible(built.space, document)
    budget, name = fixed.budget(file), file.name or _name(path)
    free = () if priced else ("no price_per_hour: no cost objective",)
    return Spec(
        name=name,
        path=path,
        seed=file.seed,
        model=model,
        data=data,
        metrics=metrics,
        objectives=fixed.columns(objectives, metrics),
        slo=slo,
        scenario=load_scenario,
        targets=targets,
        budget=budget,
        space=built.space,
        sampler=file.sampler,
        stage_timeout_s=file.stage_timeout,
        notes=(*free, *built.notes),
        resolved={
            "name": name,
            "seed": file.seed,
            **fixed.plain(model, metrics, targets, budget),
            "data": str(data),
            "objectives": objectives,
            "slo": list(file.slo),
            **({} if file.scenario == "single_stream" else {"scenario": file.scenario}),
            "sampler": file.sampler,
            "stage_timeout": file.stage_timeout,
            "space": built.section,
        },
    )


def _document(path: Path, overrides: Mapping[str, object]) -> Document:
    document = reader.read(path)
    example = "start from a ready space file: model:, data: and space: at the top"
    if document.data is None:
        raise SpecError("the file is empty", place=document.source, remedy=example)
    if not isinstance(document.data, dict):
        cause = f"the top level is {shown(document.data)}, not a mapping"
        raise document.error((), cause, example)
    if overrides.get("preset") is not None:
        kept = {key: value for key, value in document.data.items() if key != "budget"}
        document = replace(document, data=kept)
    return document.with_overrides(overrides)


def _name(path: Path) -> str:
    """The file's name, or its folder's where it is called ``space`` like all of them."""
    word = path.resolve().parent.name if path.stem == "space" else path.stem
    return re.sub(r"[^\w. -]", "-", word)[:100].lstrip(". -") or "run"


def _feasible(space: Space, document: Document) -> None:
    """Refuse a space of which no point can run.

    Raises:
        SpecError: With the reasons that removed the points.
    """
    try:
        space.draw(random.Random(0))
    except Infeasible as error:
        grid = space.grid(FEW)
        if grid is not None and grid.points:
            return
        removed = grid.removed if grid is not None else {str(error): 0}
        reasons = sorted(removed, key=lambda reason: -removed[reason])
        raise document.error(
            ("space",),
            f"no configuration of this space can run here: {'; '.join(reasons[:3])}",
            "add values (of precision, backend, threads) that can",
        ) from None
