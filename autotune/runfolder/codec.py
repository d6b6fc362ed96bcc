"""Trials as the journal writes them: outcomes <-> JSON values, events -> trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from autotune.errors import RunFolderError
from autotune.space import Configuration
from autotune.trial import (
    Completed,
    Estimate,
    Failed,
    Measurement,
    Outcome,
    Rejected,
    Stopped,
    Trial,
)

Event = Mapping[str, Any]


def encode_outcome(outcome: Outcome) -> dict[str, Any]:
    """The JSON object of an outcome; ``decode_outcome`` gives an equal one back.

    An estimate is the list ``[value, low, high]``, an unknown bound is null.
    """
    match outcome:
        case Completed(measurement, reason=reason):
            values = {c: [e.value, e.low, e.high] for c, e in measurement.values.items()}
            body: dict[str, Any] = {
                "values": values,
                "facts": dict(measurement.facts),
                "samples": measurement.samples,
                **({"reason": reason} if reason else {}),
            }
        case Stopped(reason, evidence):
            body = {"reason": reason, "evidence": dict(evidence)}
        case Rejected(reason):
            body = {"reason": reason}
        case Failed(stage, error, traceback):
            body = {"stage": stage, "error": error, "traceback": traceback}
    return {"word": outcome.word, **body}


def decode_outcome(data: Mapping[str, Any]) -> Outcome:
    """The outcome that ``encode_outcome`` wrote.

    Raises:
        RunFolderError: The object is no outcome that this version knows.
    """
    try:
        return _decode(data)
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"the journal holds an outcome that cannot be read: {error!r}",
            remedy="it was written by another version of autotune; read it with that version",
        ) from error


def _decode(data: Mapping[str, Any]) -> Outcome:
    match data["word"]:
        case "completed":
            values = {column: Estimate(*bounds) for column, bounds in data["values"].items()}
            measurement = Measurement(values, data["facts"], data["samples"])
            return Completed(measurement, reason=data.get("reason", ""))
        case "stopped":
            return Stopped(data["reason"], data["evidence"])
        case "rejected":
            return Rejected(data["reason"])
        case "failed":
            return Failed(data["stage"], data["error"], data["traceback"])
        case word:
            raise ValueError(f"unknown outcome {word!r}")


def trials(events: Iterable[Event]) -> tuple[Trial, ...]:
    """The trials of a journal, by number.

    A later event of the same number replaces an earlier one; what a front member was confirmed with
    replaces what the search measured. A trial that started and has no
    outcome keeps ``None``: it runs, or was in flight when the driver died.

    Raises:
        RunFolderError: An outcome cannot be read or belongs to a trial that never started.
    """
    found: dict[int, Trial] = {}
    for event in events:
        if event["event"] == "trial":
            configuration = Configuration(tuple(sorted(event["settings"].items())))
            found[event["number"]] = Trial(event["number"], configuration, event["origin"])
        elif event["event"] == "outcome":
            found[event["number"]] = _ended(found.get(event["number"]), event)
        elif event["event"] == "confirmed":
            found[event["number"]] = _confirmed(found.get(event["number"]), event)
    return tuple(found[number] for number in sorted(found))


def _confirmed(trial: Trial | None, event: Event) -> Trial:
    if trial is None:
        raise RunFolderError(f"the journal confirms trial {event['number']}, which never started")
    return replace(trial, outcome=decode_outcome(event["outcome"]))


def _ended(trial: Trial | None, event: Event) -> Trial:
    if trial is None:
        raise RunFolderError(f"the journal ends trial {event['number']}, which never started")
    return Trial(
        trial.number,
        trial.configuration,
        trial.origin,
        decode_outcome(event["outcome"]),
        dict(event.get("stage_seconds", {})),
        tuple(event.get("executed", ())),
    )
