"""The two stages that the intake makes, the user's model and data: what names them, what remakes.

A worker is asked for one only where its artifact has left the store while a run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.engine import build, onnxfile
from autotune.errors import MachineError, UserError
from autotune.plugins import version
from autotune.task import ModelSource


def source(model: ModelSource, code: str) -> Stage:
    """The stage whose artifact is the given model; ``code`` is its hash."""
    runtime = "torch" if model.trainable else "onnxruntime"
    return Stage(
        name="model",
        function="autotune.engine.given:model_again",
        kind="network" if model.trainable else "onnx",
        parameters={"model": model.record(), "code": code},
        libraries=(version(runtime),),
    )


def data(fingerprint: str) -> Stage:
    """The stage whose artifact holds the arrays of that hash."""
    return Stage(
        name="data",
        function="autotune.engine.given:data_again",
        kind="data",
        parameters={"fingerprint": fingerprint},
    )


def code(model: ModelSource) -> str:
    """A hash over the task file, the modules beside it that it imports, and the weights."""
    from autotune.training import usercode

    refs = [ref for ref in (model.factory, model.train) if ref]
    files = {file for ref in refs for file in usercode.sources(Path(ref.file))}
    weights = tuple(Path(p) for p in (model.weights, model.onnx) if p)
    beside = onnxfile.external(Path(model.onnx)) if model.onnx else ()
    return usercode.fingerprint((*sorted(files), *weights, *beside))


def data_again(context: StageContext) -> Mapping[str, Any]:
    """The data's stage, which only the intake can make: asked for, it has left the store.

    Raises:
        MachineError: Always; no trial can succeed any more.
    """
    raise MachineError("the data left the store", remedy="run again")


def model_again(context: StageContext) -> Mapping[str, Any]:
    """The given model's stage: built as the intake did, where it has left the store.

    Raises:
        MachineError: The code or weights changed meanwhile, or it cannot be built.
    """
    try:
        same = code(read(context.parameters["model"])) == context.parameters["code"]
        if same:
            return build.given(context)
    except (UserError, OSError) as error:
        raise MachineError(f"the model left the store: {error}", remedy="run again") from error
    raise MachineError("the model left the store, and its code changed", remedy="run again")


def read(record: Mapping[str, Any]) -> ModelSource:
    """The model as a value, of its record."""
    return ModelSource.from_record(record)
