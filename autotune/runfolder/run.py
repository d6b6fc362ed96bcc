"""A run folder as one value: what was asked, where it ran, what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autotune import plugins
from autotune.errors import RunFolderError
from autotune.runfolder.codec import Event, trials
from autotune.slo import Direction, quantity
from autotune.store import journal
from autotune.trial import Trial

SPEC = "spec.yaml"
JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class RunData:
    """A run, finished or not.

    Attributes:
        folder: Where it lies.
        name: As in the space file.
        spec: The resolved space file, plain data.
        environment: Machine, versions and seeds, as recorded when the run was last opened.
        space: ``size`` (None where continuous), ``removed`` (reason -> points), ``notes``.
        objectives: Trial columns and their better direction.
        slo: The limits and the objective under them, as sentences.
        trials: By number; running ones included.
        pick: The last pick event: ``trial`` (None: nothing fits), ``checks``, ``message``; None
            where limits that were lifted since leave no pick.
        summary: The last close event: ``why``, ``wall_s``, ``stages_executed``, and more.
        events: The whole journal.
        metrics: The run's own quality metrics and their better direction.
    """

    folder: Path
    name: str
    spec: Mapping[str, Any]
    environment: Mapping[str, Any]
    space: Mapping[str, Any]
    objectives: Mapping[str, Direction]
    slo: tuple[str, ...]
    trials: tuple[Trial, ...]
    pick: Mapping[str, Any] | None
    summary: Mapping[str, Any]
    events: tuple[Event, ...]
    metrics: Mapping[str, Direction]


def read(folder: Path) -> RunData:
    """The run that lies in ``folder``.

    Raises:
        RunFolderError: There is no run in the folder, or it cannot be read.
    """
    for needed in (SPEC, JOURNAL):
        if not (folder / needed).is_file():
            raise RunFolderError(
                f"no run lies here: {needed} is missing",
                place=str(folder),
                remedy="name the folder that `autotune run` wrote, for example runs/<name>",
            )
    return assemble(folder, read_spec(folder / SPEC), journal.read(folder / JOURNAL))


def assemble(folder: Path, spec: Mapping[str, Any], events: Sequence[Event]) -> RunData:
    """The run that a resolved spec and a journal's events tell."""
    metrics = _metrics(spec)
    closed = _last(events, "close")
    limits = tuple(str(sentence) for sentence in spec.get("slo") or ())
    found = trials(events)
    return RunData(
        folder=folder,
        name=str(spec.get("name") or folder.name),
        spec=spec,
        environment=_last(events, "open").get("environment", {}),
        space={k: _last(events, "space").get(k, empty) for k, empty in _SPACE.items()},
        objectives=_objectives(spec, metrics),
        slo=limits,
        trials=found,
        pick=_pick(events, limits, found),
        summary={"why": closed.get("why", ""), **closed.get("summary", {})},
        events=tuple(events),
        metrics=metrics,
    )


_SPACE: Mapping[str, Any] = {"size": None, "removed": {}, "notes": ()}


def _last(events: Sequence[Event], word: str) -> Event:
    return next((event for event in reversed(events) if event["event"] == word), {})


def _pick(
    events: Sequence[Event], limits: Sequence[str], found: Sequence[Trial]
) -> Mapping[str, Any] | None:
    """A run without limits picks nothing; what it may note is that no trial completed at all."""
    lifted = not limits and any(trial.measurement is not None for trial in found)
    return None if lifted else _last(events, "pick") or None


def read_spec(path: Path) -> Mapping[str, Any]:
    """The resolved spec of a run.

    Raises:
        RunFolderError: The file was damaged: it is not what autotune wrote.
    """
    remedy = "restore it from a copy, or name another folder"
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise RunFolderError("not a resolved space file", place=str(path), remedy=remedy)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        cause = f"not readable as YAML: {error}"
        raise RunFolderError(cause, place=str(path), remedy=remedy) from error
    if not isinstance(data, dict):
        raise RunFolderError("not a resolved space file", place=str(path), remedy=remedy)
    for key, kind in _SHAPES.items():
        given = data.get(key)
        words = isinstance(given, dict) and all(isinstance(word, str) for word in given)
        if given is not None and not (words if kind is dict else isinstance(given, kind)):
            cause = f"not a resolved space file: '{key}' is {given!r:.60}"
            raise RunFolderError(cause, place=str(path), remedy=remedy)
    return data


_SHAPES = {"objectives": dict, "metrics": dict, "slo": list}


def _objectives(
    spec: Mapping[str, Any], metrics: Mapping[str, Direction]
) -> Mapping[str, Direction]:
    found: dict[str, Direction] = {}
    for word, direction in (spec.get("objectives") or {}).items():
        known = quantity(word, metrics)
        found[known.column if known else word] = "max" if direction == "max" else "min"
    return found


def _metrics(spec: Mapping[str, Any]) -> Mapping[str, Direction]:
    asked = spec.get("objectives") or {}
    return {
        word: _direction(metric, asked.get(word))
        for word, metric in (spec.get("metrics") or {}).items()
    }


def _direction(metric: object, asked: object) -> Direction:
    """The better side of a metric: as given, as its objective says, as its plug-in says."""
    given = metric.get("direction") if isinstance(metric, Mapping) else None
    word = given or asked
    if word is None and isinstance(metric, str) and metric in plugins.names("metrics"):
        word = plugins.load("metrics", metric).direction
    return "min" if word == "min" else "max"
