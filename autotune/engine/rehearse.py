"""The given model tried before anything starts: on test data, under the metrics, in one training.

What would fail every trial is told here, with its place.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from autotune.conversion.arrays import Array
from autotune.engine.judge import metric, score
from autotune.engine.parts import Parts
from autotune.engine.plan import Needs
from autotune.errors import StageError, TaskError
from autotune.task import Blueprint, ModelSource

if TYPE_CHECKING:
    from autotune.contracts import Floats, TechniqueContext

REHEARSED = 64
"""How many test samples the given model is tried on before anything else starts."""
_CHUNK = 4096
_LOOK = "look at the model's outputs for the test data, and at the labels"


def rehearse(
    model: ModelSource, parts: Parts, metrics: Mapping[str, Any], artifact: Path
) -> list[int]:
    """Try the given model on a few test samples; the shape of its prediction for one sample.

    Raises:
        TaskError: It cannot run them, does not predict one row a sample, or a metric is not finite.
    """
    from autotune.engine.build import run_onnx
    from autotune.training import network as networks

    x, y = parts["test"]
    few = {name: array[:REHEARSED] for name, array in x.items()}
    count = len(next(iter(few.values())))
    place = str(model.factory or model.onnx)
    try:
        if model.onnx is not None:
            outputs = run_onnx(artifact, few)
        else:
            network, _, _ = networks.load(artifact)
            outputs = networks.predict(network, few, model.output)
    except (Exception, SystemExit) as error:  # the edge to the user's network
        shapes = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in few.items())
        raise TaskError(
            f"the model cannot run the test data ({shapes}): {_words(error)}",
            place=place,
            remedy="the inputs are handed over in the order of the network's arguments; their"
            " shapes and dtypes, and the weights', must be the network's",
        ) from error
    if outputs.ndim < 1 or len(outputs) != count:
        raise TaskError(
            f"the model's output has shape {outputs.shape} for {count} samples",
            place=place,
            remedy="its first axis must be the samples; choose one with model.output",
        )
    _judge(outputs, y, metrics)
    return list(outputs.shape[1:])


def _judge(outputs: Array, labels: Array | None, metrics: Mapping[str, Any]) -> None:
    """Every metric with all the labels; the rehearsed predictions stand in for the others."""
    if labels is not None:
        outputs = outputs[np.arange(len(labels)) % len(outputs)]
    for word, source in metrics.items():
        try:
            score(metric(source), word, cast("Floats", outputs), labels)
        except TaskError as error:
            if error.place:
                raise
            raise TaskError(
                error.cause, place=f"metrics.{word}", remedy=error.remedy or _LOOK
            ) from error
        except Exception as error:  # the edge to a metric
            words = str(error) if isinstance(error, StageError) else _words(error)
            raise TaskError(
                f"{words} on the given model", place=f"metrics.{word}", remedy=_LOOK
            ) from error


def enough(parts: Parts, needs: Needs, place: str) -> None:
    """Refuse data that lacks what the space asks for.

    Raises:
        TaskError: No training part, or fewer calibration samples than the largest ``ptq.samples``.
    """
    if needs.train and "train" not in parts:
        raise TaskError(
            "the part 'train' is missing, and the space trains or prunes",
            place=place,
            remedy="give autotune.Data(train=(x, y), ...), or take that out of the space",
        )
    x, _ = parts.get("calibration", ({}, None))
    have = len(next(iter(x.values()))) if x else 0
    if have < needs.calibration:
        raise TaskError(
            f"the space asks for {needs.calibration} calibration samples (ptq.samples), the part "
            f"'calibration' has {have}",
            place=place,
            remedy="give more of them, or lower ptq.samples in the space",
        )


def epoch_s(model: ModelSource, parts: Parts, place: str, shape: list[int]) -> float:
    """Seconds that one training epoch of the given model takes here, told from one batch.

    The user's own training, where there is one, is tried for one epoch on a few samples.

    Args:
        model: What is trained.
        parts: The data.
        place: Of the data's function.
        shape: The prediction's for one sample; all the labels are tried against it.

    Raises:
        TaskError: It cannot be trained: the message has the error, and the user's line of it.
    """
    if not model.trainable or "train" not in parts:
        return 0.0
    x, y = parts["train"]
    told = f"labels {y.shape} {y.dtype}" if y is not None else "no labels"
    try:
        return _trained(model, x, y, shape)
    except TaskError:
        raise
    except (Exception, SystemExit) as error:  # the edge to the user's network and labels
        raise TaskError(
            f"the model cannot be trained on the part 'train' ({told}): {_words(error)}",
            place=_line(error, model) or place,
            remedy="cross-entropy wants labels of shape (samples,): class numbers from 0; the"
            " network needs parameters that require gradients",
        ) from error


def _trained(model: ModelSource, x: dict[str, Array], y: Array | None, shape: list[int]) -> float:
    import torch

    from autotune.training import loop, losses
    from autotune.training import network as networks

    loss = losses.distillation(4.0, 0.3)
    count = len(next(iter(x.values())))
    if y is not None and model.train is None:  # what the user's own makes of them is its business
        for start in range(0, count, _CHUNK):
            labels = loop.labels(y[start : start + _CHUNK])
            loss(torch.zeros(len(labels), *shape), labels, None)
    network = networks.given(model)
    few = {name: np.array(array[:64]) for name, array in x.items()}
    batch = len(next(iter(few.values())))
    teacher = networks.predict(network, few, model.output)
    with tempfile.TemporaryDirectory() as folder:
        context = _context(model, few, None if y is None else y[:64], teacher, Path(folder))
        loop.train(network, context, loss, loop.Recipe(epochs=1, lr=1e-4))  # also warms up
    network.train()
    inputs = [torch.from_numpy(array) for array in few.values()]
    begun = time.perf_counter()
    networks.select(network(*inputs), model.output).float().sum().backward()  # type: ignore[no-untyped-call]
    return 1.2 * (time.perf_counter() - begun) * count / batch


def _context(
    model: ModelSource, x: dict[str, Array], y: Array | None, teacher: Any, folder: Path
) -> TechniqueContext:
    from autotune.contracts import TechniqueContext
    from autotune.training import network as networks
    from autotune.training import usercode

    return TechniqueContext(
        build=lambda blueprint: networks.build(model, blueprint),
        blueprint=Blueprint(model.args),
        train_x=x,
        train_y=y,
        teacher_logits=teacher,
        teacher_features=None,
        seed=0,
        checkpoint=folder / "training.pt",
        output=model.output,
        train=usercode.load(model.train) if model.train else None,
    )


def _line(error: BaseException, model: ModelSource) -> str:
    """``file:line`` of the user's file on the way to the error; "" where it was not there."""
    from autotune.training import usercode

    file = model.factory.file if model.factory else ""
    found = usercode.found(error, file)
    return f"{file}:{found}" if found else ""


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
