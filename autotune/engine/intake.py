"""Take in the user's model and data: run their code once, check it, keep the result as artifacts.

A process of its own (``python -m autotune.engine.intake`` and the request) does it, beside the
start of the cluster; the driver never imports the user's file, nor torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays
from autotune.engine import build, parts
from autotune.engine.plan import Subject
from autotune.errors import TaskError, UserError
from autotune.plugins import version
from autotune.store.artifacts import Store
from autotune.task import CodeRef, ModelSource


def start(
    model: ModelSource, data: CodeRef, metrics: Mapping[str, Any], store: Path
) -> subprocess.Popen[str]:
    """Begin taking in; ``finish`` waits for it."""
    request = json.dumps(
        {
            "model": dataclasses.asdict(model),
            "data": dataclasses.asdict(data),
            "metrics": dict(metrics),
            "store": str(store),
        }
    )
    return subprocess.Popen(
        [sys.executable, "-m", "autotune.engine.intake", request],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seed: int) -> tuple[Subject, Mapping[str, Any]]:
    """The subject, and facts about it (samples of each part, parameters).

    Raises:
        UserError: What the user's code does wrong, with its place.
        TaskError: It ended the process.
    """
    output, errors = process.communicate()
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if not lines:
        tail = " | ".join(errors.strip().splitlines()[-3:])
        model = json.loads(cast("list[str]", process.args)[-1])["model"]
        raise TaskError(
            f"loading the model and data {_ended(process.returncode)}: {tail}",
            place=model["onnx"] or model["factory"]["file"],
            remedy="load the model and call the data's function by themselves in Python",
        )
    answer = json.loads(lines[-1].removeprefix(_MARK))
    if "error" in answer:
        raise UserError(answer["error"], place=answer["place"], remedy=answer["remedy"])
    model = _model(answer["model"])
    subject = Subject(
        model, _source(model, answer["code"]), _data(answer["data"]), answer["metrics"], seed
    )
    return subject, answer["facts"]


def _ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


_MARK = "autotune-intake:"


def main(text: str) -> None:
    """Take in what the request names and print the answer on one marked line."""
    request = json.loads(text)
    try:
        answer = _take_in(request)
    except UserError as error:
        answer = {"error": error.cause, "place": error.place, "remedy": error.remedy}
    sys.stdout.write(f"\n{_MARK}{json.dumps(answer)}\n")


def _take_in(request: dict[str, Any]) -> dict[str, Any]:
    model = _model(request["model"])
    store = Store(Path(request["store"]))
    needs_labels = parts.needs_labels(request["metrics"])
    found = parts.load(CodeRef(**request["data"]), model, needs_labels)
    data = _data(_fingerprint(found))
    if not store.open(data.key):
        _commit(store, data, lambda context: arrays.write(context.out, found))
    hashed = code(model)
    source = _source(model, hashed)
    if not store.open(source.key):
        _commit(store, source, build.given)
    shape = parts.rehearse(model, found, request["metrics"], _folder(store, source))
    return {
        "model": request["model"],
        "metrics": request["metrics"],
        "code": hashed,
        "data": _fingerprint(found),
        "facts": {
            "samples": {part: _count(x) for part, (x, _) in found.items()},
            "output_shape": shape,
            "epoch_s": parts.epoch_s(model, found),
            **store.meta(source.key)["facts"],
        },
    }


def _source(model: ModelSource, code: str) -> Stage:
    runtime = "torch" if model.trainable else "onnxruntime"
    return Stage(
        name="model",
        function="autotune.engine.build:given",
        kind="network" if model.trainable else "onnx",
        parameters={"model": dataclasses.asdict(model), "code": code},
        libraries=(version(runtime),),
    )


def _data(fingerprint: str) -> Stage:
    return Stage(
        name="data",
        function="autotune.engine.intake:main",
        kind="data",
        parameters={"fingerprint": fingerprint},
    )


def code(model: ModelSource) -> str:
    """A hash over the task file, the modules beside it that it imports, and the weights."""
    from autotune.training import usercode

    files = usercode.sources(Path(model.factory.file)) if model.factory else ()
    weights = tuple(Path(p) for p in (model.weights, model.onnx) if p)
    return usercode.fingerprint((*files, *weights))


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


def _model(record: Mapping[str, Any]) -> ModelSource:
    rest = dict(record)
    factory = rest.pop("factory")
    return ModelSource(factory=CodeRef(**factory) if factory else None, **rest)


if __name__ == "__main__":
    main(sys.argv[1])
