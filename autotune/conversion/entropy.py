"""Activation ranges that lose the least information when 8 bits hold what is inside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.conversion import arrays, graphs

LEVELS = 256
"""The whole numbers of 8 bits."""
PARTS = 2
"""In how many parts a level is looked at, as many whatever its width: so thresholds compare."""
MANY = 8
"""A level of fewer values tells nothing about chance."""
THRESHOLDS = np.arange(128, 3, -1) / 128
"""Fractions of the greatest magnitude."""
BINS = 32 * LEVELS * PARTS
"""Of a histogram: one for each part of a level at the least threshold."""

Range = tuple[Any, Any]
"""The lowest and the highest value of a tensor, scalars of the tensor's own type."""
_Counts = NDArray[np.float64]


def save(
    prepared: Path,
    x: Mapping[str, arrays.Array],
    target: Path,
    operators: Sequence[str] | None,
    symmetric: bool,
) -> None:
    """Write the ranges of a model's tensors as ONNX Runtime's quantizer reads them.

    Args:
        prepared: The ONNX file that is going to be quantized.
        x: Calibration samples by input name.
        target: The file to be written, a calibration cache of the method ``Entropy``.
        operators: Those whose inputs and outputs count; None: all.
        symmetric: Whether the quantizer widens each range to one around zero.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data

    found = ranges(prepared, x, operators, symmetric)
    data = {
        name: TensorData(lowest=np.asarray(low), highest=np.asarray(high))
        for name, (low, high) in found.items()
    }
    save_tensors_data(TensorsData(CalibrationMethod.Entropy, data), target)


def ranges(
    prepared: Path,
    x: Mapping[str, arrays.Array],
    operators: Sequence[str] | None,
    symmetric: bool,
) -> dict[str, Range]:
    """The range of every floating-point tensor of a model, by name.

    Two runs over the samples, the first for the extremes and the second for the histograms, with
    the tensors of one sample at a time in memory.
    """
    session, names = _observed(prepared, operators)
    extremes: dict[str, Range] = {}
    for name, values in _values(session, names, x):
        low, high = extremes.get(name, (values.flat[0], values.flat[0]))
        extremes[name] = np.minimum(low, values.min()), np.maximum(high, values.max())
    spans = {name: span(*both, symmetric) for name, both in extremes.items()}
    counts = {name: np.zeros(BINS) for name, both in spans.items() if divisible(*both)}
    for name, values in _values(session, list(counts), x):
        counts[name] += histogram(values, *spans[name])
    for name, many in counts.items():
        low, high = extremes[name]
        limit = threshold(many, *spans[name])
        kept = np.clip((low, high), -limit, limit).astype(low.dtype)
        extremes[name] = kept[0], kept[1]
    return extremes


def histogram(values: NDArray[Any], low: float, high: float) -> _Counts:
    """How many ``values`` lie in each bin from ``low`` to ``high``, zeros left out.

    Eight bits hold a zero exactly whatever the range. Behind a ReLU zeros are most of what there
    is, and as a spike among their neighbours they would decide the range alone.
    """
    there = values[values != 0]
    return np.histogram(there, BINS, (low, high))[0].astype(np.float64)


def threshold(counts: _Counts, low: float, high: float) -> float:
    """The magnitude at which values that are spread like this had best be clipped.

    One for both signs: what reaches far is clipped on whichever side it is, and a short side (as
    GELU's) stays whole. The one of ``THRESHOLDS`` with the least divergence, the widest of equals
    (Migacz, 8-bit Inference with TensorRT, GTC 2017).

    Args:
        counts: Of the bins from ``low`` to ``high``.
        low: At most zero.
        high: At least zero.
    """
    limits = THRESHOLDS * max(-low, high)
    width = (high - low) / BINS
    first = np.maximum(np.floor((-limits - low) / width + 1e-6), 0).astype(np.int64)
    last = np.minimum(np.ceil((limits - low) / width - 1e-6), BINS).astype(np.int64)
    return float(limits[np.argmin(_divergences(counts, first, last))])


def _divergences(
    counts: _Counts, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.float64]:
    """KL(P || Q) of keeping the bins from ``first`` up to ``last``, for each pair of them.

    P is the histogram, its outliers moved into the outermost parts kept. Q is what is kept without
    them, shared equally among P's filled parts of each level; a level that outliers alone fill
    holds half a value. So clipping shows in the outermost parts, and rounding within the levels.
    Parts alike would differ by chance: the divergence expected of it is taken off, half a value
    for each part above one (Miller 1955), or few values would forbid every narrower range.
    """
    places = np.arange(LEVELS * PARTS + 1)
    edges = first[:, None] + (last - first)[:, None] * places // (LEVELS * PARTS)
    running = np.concatenate(([0.0], np.cumsum(counts)))
    inside = np.diff(running[edges]).reshape(-1, LEVELS, PARTS)
    whole = inside.copy()
    whole[:, 0, 0] += running[first]
    whole[:, -1, -1] += running[-1] - running[last]
    filled = (whole > 0).sum(2)
    held = np.where(filled > 0, np.maximum(inside.sum(2), 0.5), 0.0)
    share = held / np.maximum(filled, 1)
    parted = whole * np.log(_positive(whole)) - whole * np.log(_positive(share))[:, :, None]
    total = _positive(running[-1])
    chance = (held >= MANY).sum(1) * (PARTS - 1) / 2
    found = (parted.sum((1, 2)) - chance) / total + np.log(_positive(held.sum(1)) / total)
    return np.where(inside.any((1, 2)), found, np.inf)


def _positive(values: Any) -> Any:
    """Nothing becomes 1, whose logarithm is no trouble where it is multiplied by nothing."""
    return np.where(values > 0, values, 1.0)


def span(low: Any, high: Any, symmetric: bool) -> tuple[float, float]:
    """From where to where the 8 bits of a tensor with these extremes reach: zero is inside."""
    below, above = min(float(low), 0.0), max(float(high), 0.0)
    return (min(below, -above), max(above, -below)) if symmetric else (below, above)


def divisible(low: float, high: float) -> bool:
    """Whether bins between these can be told apart; a tensor of zeros or infinities has none."""
    return bool(np.isfinite(high - low) and (high - low) / BINS > np.finfo(np.float32).tiny)


def _observed(prepared: Path, operators: Sequence[str] | None) -> tuple[Any, list[str]]:
    """A session that gives every tensor that the quantizer may ask about, and their names."""
    from onnxruntime.quantization.calibrate import CalibraterBase
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    known = operators or [*QDQRegistry, *QLinearOpsRegistry]
    calibrater = CalibraterBase(prepared, known)
    model = calibrater.model
    names, infos = calibrater.select_tensors_to_calibrate(model)
    given = {place.name for place in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(infos[name] for name in sorted(names - given))
    return graphs.session(model, "ORT_DISABLE_ALL"), sorted(names)


def _values(
    session: Any, names: Sequence[str], x: Mapping[str, arrays.Array]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The values of each tensor for one sample after the other; of inputs those given."""
    computed = [name for name in names if name not in x]
    asked = set(names)
    for sample in range(len(next(iter(x.values())))):
        feed = arrays.rows(x, sample, 1)
        made = dict(zip(computed, session.run(computed, feed), strict=True)) if computed else {}
        yield from ((n, v) for n, v in {**feed, **made}.items() if n in asked and v.size)
