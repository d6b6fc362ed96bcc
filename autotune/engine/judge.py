"""The stage that runs a finished artifact over the test data: what it computes, and how well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autotune import plugins
from autotune.contracts import Metric, StageContext
from autotune.conversion import arrays
from autotune.engine.build import CHECKED, OUTPUTS, SIZE
from autotune.errors import StageError, TaskError
from autotune.hardware import held
from autotune.measure import accuracy as statistics
from autotune.measure import check
from autotune.task import CodeRef

if TYPE_CHECKING:
    from autotune.contracts import Floats

BATCH = 50
"""The batch at which accuracy is measured where no sample's result hangs on the others in it; the
last one is filled up from the start."""
SCORES = "scores.{}.npy"


def accuracy(context: StageContext) -> Mapping[str, Any]:
    """Every metric over the test data, with checks that the conversion kept the function.

    Raises:
        StageError: The outputs differ from the unconverted network's beyond the precision's
            tolerance, the runtime runs another precision than asked, or a metric is not finite.
    """
    artifact, data, reference = context.inputs
    backend = plugins.load("backends", context.parameters["backend"])
    settings = context.parameters["settings"]
    x = arrays.read(data, "test")
    batch = int(context.parameters.get("batch", BATCH))
    alone = held(context.stage.hints)
    with alone, backend.open(artifact, settings, batch, threads=1) as session:
        outputs = _predict(session.run, x, batch)
        facts = dict(session.facts())
    precision = str(settings["precision"])
    kept = check.verify(np.load(reference / OUTPUTS), outputs[:CHECKED], precision)
    _really(precision, facts, int(context.parameters.get("kept", 0)))
    np.save(context.out / OUTPUTS, outputs)
    labels = arrays.labels(data, "test")
    columns = {}
    for word, source in context.parameters["metrics"].items():
        columns[word] = score(metric(source), word, outputs, labels)
        parts = metric(source).per_sample(outputs, labels)
        if parts is not None:
            np.save(context.out / SCORES.format(word), np.asarray(parts, dtype=np.float64))
    size = sum(p.stat().st_size for p in artifact.iterdir() if p.suffix in _SHIPPED)
    network = json.loads((reference / SIZE).read_text())
    told = {"columns": columns, "runtime": facts, "check": dict(kept), "network": network}
    return {**told, "size_bytes": size}


_SHIPPED = (".pt", ".onnx", ".xml", ".bin", ".engine")


def _predict(run: Any, x: Mapping[str, arrays.Array], batch: int) -> Floats:
    count = len(next(iter(x.values())))
    parts = [run(arrays.rows(x, start, batch)) for start in range(0, count, batch)]
    outputs: Floats = np.concatenate(parts)[:count]
    return outputs


def _really(precision: str, facts: Mapping[str, Any], kept: int) -> None:
    """Refuse a runtime that fell back from the precision asked for in all but ``kept`` layers."""
    kernels = facts["kernels"]
    heavy = max(0, sum(kernels.values()) - kept)
    if precision != "fp32" and 2 * kernels.get(precision, 0) <= heavy:
        ran = ", ".join(f"{n} {word}" for word, n in kernels.items() if n) or "none of them at all"
        raise StageError(
            f"asked for {precision}, but of the convolutions and matrix products that the "
            f"runtime executes no more than half are: {ran}"
            + (f"; ptq.keep = {kept} leaves that many layers as they are: lower it" if kept else "")
        )


def metric(source: Mapping[str, Any]) -> Metric:
    """The metric of ``{"plugin": name}`` or ``{"file":, "name":, "direction":}``."""
    if "plugin" in source:
        return plugins.load("metrics", source["plugin"])
    return _UserMetric(CodeRef(source["file"], source["name"]), source["direction"])


def score(
    metric: Metric, word: str, outputs: Floats, labels: NDArray[np.generic] | None
) -> dict[str, float | None]:
    """A metric's value with its 95 % interval where its per-sample scores tell one.

    Raises:
        StageError: The value is not a finite number.
    """
    value = metric.score(outputs, labels)
    if not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        raise StageError(f"metric '{word}' is {value!r}, not a finite number")
    low = high = None
    parts = metric.per_sample(outputs, labels)
    if parts is not None and set(np.unique(parts)) <= {0.0, 1.0}:
        interval = statistics.wilson(int(parts.sum()), len(parts))
        low, high = interval.low, interval.high
    return {"value": float(value), "low": low, "high": high}


class _UserMetric:
    """A function ``f(predictions, labels) -> float`` from the user's file."""

    needs_labels = False
    fraction = False  # it may be: nobody said

    def __init__(self, ref: CodeRef, direction: Any) -> None:
        self.summary = str(ref)
        self.direction = direction
        self._ref = ref

    def score(self, predictions: Floats, labels: NDArray[np.generic] | None) -> float:
        from autotune.training import usercode

        function = usercode.load(self._ref)
        try:
            return float(function(predictions, labels))
        except (Exception, SystemExit) as error:  # the edge to the user's code
            raise TaskError(
                f"metric {self._ref.name} raised {type(error).__name__}: {error}",
                place=f"{self._ref.file}:{usercode.line(error, self._ref.file)}",
                remedy="it is called with predictions and labels as arrays and returns a number",
            ) from error

    def per_sample(self, predictions: Floats, labels: NDArray[np.generic] | None) -> None:
        return None


def scores(artifact: Path, word: str) -> NDArray[np.float64] | None:
    """Per-sample scores of a metric, shape (samples,); None where it has none."""
    path = artifact / SCORES.format(word)
    return np.load(path) if path.exists() else None
