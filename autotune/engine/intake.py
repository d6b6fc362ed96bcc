"""Take in the user's model and data: run their code once, check it, keep the result as artifacts.

A process of its own (``python -m autotune.engine.intake`` and the request's file) does it,
beside the start of the cluster; the driver never imports the user's file, nor torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays
from autotune.engine import build, given, onnxfile, parts, rehearse
from autotune.engine.child import die_with
from autotune.engine.plan import Needs, Subject
from autotune.errors import MachineError, TaskError, UserError
from autotune.store.artifacts import Store
from autotune.task import CodeRef, ModelSource

TIMEOUT_S = 600.0
"""How long the user's code may take, as for a stage."""


@dataclass(frozen=True)
class Intake:
    """Taking in under way: the process, its folder (request, answer, what it says), its start."""

    process: subprocess.Popen[bytes]
    folder: Path
    place: str
    began: float


def start(
    model: ModelSource,
    data: CodeRef,
    metrics: Mapping[str, Any],
    store: Path,
    needs: Needs | None = None,
) -> Intake:
    """Begin taking in; ``finish`` waits for it, ``end`` gives it up.

    The process has a session of its own, answers through a file and prints to one: what the
    user's code prints, replaces or leaves running cannot disturb the answer.

    Args:
        model: What is tuned.
        data: The function that gives its data.
        metrics: What computes each, by word.
        store: The folder for the artifacts.
        needs: What the space asks of the data; None tries a training where there is data for it.

    Raises:
        MachineError: The store's path is no folder.
    """
    if store.exists() and not store.is_dir():
        raise MachineError("it is a file", place=str(store), remedy="name a folder with --store")
    folder = Path(tempfile.mkdtemp(prefix="autotune-intake-"))
    request = {
        "model": dataclasses.asdict(model),
        "data": dataclasses.asdict(data),
        "metrics": dict(metrics),
        "store": str(store),
        "needs": dataclasses.asdict(needs) if needs is not None else None,
        "answer": str(folder / _ANSWER),
        "parent": os.getpid(),
    }
    (folder / _REQUEST).write_text(json.dumps(request))
    with (folder / _ERRORS).open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "autotune.engine.intake", str(folder / _REQUEST)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    place = model.onnx or (model.factory.file if model.factory else data.file)
    return Intake(process, folder, place, time.monotonic())


def finish(
    intake: Intake, seed: int, timeout_s: float = TIMEOUT_S
) -> tuple[Subject, Mapping[str, Any]]:
    """The subject, and facts about it (samples of each part, parameters).

    Raises:
        UserError: What the user's code does wrong, with its place.
        TaskError: It ended the process, or took longer than ``timeout_s`` from the start.
    """
    path = intake.folder / _ANSWER
    try:
        while intake.process.poll() is None and not path.exists():
            if time.monotonic() - intake.began > timeout_s:
                raise TaskError(
                    f"data() or the model took longer than {timeout_s:g} s",
                    place=intake.place,
                    remedy="load the model and call the data's function by themselves in Python",
                )
            time.sleep(0.02)
        if not path.exists():
            raise TaskError(
                f"loading the model and data {_ended(intake.process.returncode)}: {_tail(intake)}",
                place=intake.place,
                remedy="load the model and call the data's function by themselves in Python",
            )
        answer = json.loads(path.read_text())
        with suppress(subprocess.TimeoutExpired):  # what the task runs at its exit is its own
            intake.process.wait(timeout=_LEAVE_S)
    finally:
        end(intake)
    if "error" in answer:
        kind = MachineError if answer["kind"] == MachineError.__name__ else TaskError
        raise kind(answer["error"], place=answer["place"], remedy=answer["remedy"])
    model = given.read(answer["model"])
    subject = Subject(
        model,
        given.source(model, answer["code"]),
        given.data(answer["data"]),
        answer["metrics"],
        seed,
    )
    return subject, answer["facts"]


def end(intake: Intake) -> None:
    """End the process and what it started, where it still runs, and remove its folder."""
    if intake.process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(intake.process.pid, signal.SIGKILL)
        intake.process.wait()
    shutil.rmtree(intake.folder, ignore_errors=True)


def _tail(intake: Intake) -> str:
    with (intake.folder / _ERRORS).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return " | ".join(lines[-3:])


def _ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


_REQUEST, _ANSWER, _ERRORS = "request.json", "answer.json", "stderr.txt"
_TAIL = 4000
_LEAVE_S = 5.0


def main(path: str) -> None:
    """Take in what the request names and write the answer, whole or not at all."""
    request = json.loads(Path(path).read_text())
    die_with(request["parent"])
    try:
        answer = _take_in(request)
    except UserError as error:
        said = {"error": error.cause, "place": error.place, "remedy": error.remedy}
        answer = {**said, "kind": type(error).__name__}
    fresh = Path(request["answer"]).with_suffix(".new")
    fresh.write_text(json.dumps(answer))
    fresh.replace(request["answer"])


def _take_in(request: dict[str, Any]) -> dict[str, Any]:
    model = given.read(request["model"])
    store = _store(Path(request["store"]))
    needs_labels = parts.needs_labels(request["metrics"])
    ref = CodeRef(**request["data"])
    place = str(ref)
    found = parts.load(ref, model, needs_labels)
    needs = Needs(**request["needs"]) if request.get("needs") else None
    if needs is not None:
        rehearse.enough(found, needs, place)
    if model.onnx is not None:
        found = onnxfile.fitted(Path(model.onnx), found, place)
    data = given.data(_fingerprint(found))
    if not store.open(data.key):
        _commit(store, data, lambda context: arrays.write(context.out, found))
    hashed = given.code(model)
    source = given.source(model, hashed)
    if not store.open(source.key):
        _commit(store, source, build.given)
    shape = rehearse.rehearse(model, found, request["metrics"], _folder(store, source))
    trained = needs is None or needs.trains
    return {
        "model": request["model"],
        "metrics": request["metrics"],
        "code": hashed,
        "data": _fingerprint(found),
        "facts": {
            "samples": {part: _count(x) for part, (x, _) in found.items()},
            "output_shape": shape,
            "epoch_s": rehearse.epoch_s(model, found, place, shape) if trained else 0.0,
            **store.meta(source.key)["facts"],
        },
    }


def _store(root: Path) -> Store:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"the store cannot be made: {error.strerror}",
            place=str(root),
            remedy="name a folder with --store",
        ) from error
    return Store(root)


def _fingerprint(found: parts.Parts) -> str:
    """A hash over dtype, shape and bytes of every array."""
    digest = hashlib.sha256()
    for part, (x, y) in sorted(found.items()):
        for name, array in [*x.items(), ("labels", y)]:
            if array is not None:
                digest.update(f"{part}\0{name}\0{array.dtype}\0{array.shape}\0".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]


def _commit(store: Store, stage: Stage, function: Any) -> None:
    begun = time.perf_counter()
    with store.lock(stage.key), store.writing(stage.key) as out:
        with tempfile.TemporaryDirectory() as scratch:
            facts = function(StageContext(stage, (), out, Path(scratch)))
        seconds = time.perf_counter() - begun
        store.commit(stage.key, out, stage=stage.name, seconds=seconds, facts=facts)


def _folder(store: Store, stage: Stage) -> Path:
    folder = store.open(stage.key)
    if folder is None:
        raise TaskError("the model's artifact could not be kept", place=str(store.root))
    return folder


def _count(x: Mapping[str, arrays.Array]) -> int:
    return len(next(iter(x.values())))


if __name__ == "__main__":
    main(sys.argv[1])
