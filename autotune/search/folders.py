"""The folder of a run on disk: made, taken up again, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autotune import runfolder
from autotune.errors import MachineError, RunFolderError
from autotune.search.environment import environment
from autotune.spec import Spec, differences, dump
from autotune.store.journal import read

ENVIRONMENT = "environment.json"


def of(folder: Path, spec: Spec, *, fork: bool) -> Path:
    """The run folder, or the one beside it where it is taken and ``fork`` is asked.

    Raises:
        RunFolderError: It holds a run of another spec, or a spec that cannot be read.
    """
    path = folder / runfolder.SPEC
    if not path.exists():
        return folder
    if fork:
        return _beside(folder)
    events = read(folder / runfolder.JOURNAL) if (folder / runfolder.JOURNAL).exists() else []
    if not any(event["event"] == "open" for event in events):
        return folder  # nothing came of it yet: it may become another run
    changes = differences(runfolder.read_spec(path), spec.resolved)
    if changes:
        raise RunFolderError(
            "this folder holds a run of another spec: " + "; ".join(changes),
            place=str(folder),
            remedy="add --fork to start a new run beside it, or name another folder with --out",
        )
    return folder


@contextmanager
def disk(place: Path) -> Iterator[None]:
    """Say what the disk refused, and where.

    Raises:
        MachineError: It refused something inside the block, or nothing can be at ``place``.
    """
    if "\0" in str(place):
        raise MachineError("no path holds a NUL character", place=repr(str(place)))
    try:
        yield
    except OSError as error:
        raise MachineError(
            error.strerror or str(error), place=str(error.filename or place)
        ) from error


def prepare(folder: Path, spec: Spec) -> None:
    """The spec in the folder, as it is now: budget and SLO may change between sessions."""
    write(folder / runfolder.SPEC, dump(spec.resolved))
    write(folder / ENVIRONMENT, json.dumps(environment(spec), indent=2) + "\n")


def _beside(folder: Path) -> Path:
    number = 2
    while (candidate := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return candidate


def write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
