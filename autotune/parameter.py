"""Knobs as plug-ins declare them, and those that several share: precision and its companions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autotune.space import ALWAYS, Condition, Is, Scalar


@dataclass(frozen=True)
class Parameter:
    """A knob as its plug-in declares it; the space file gives it a value, a list or a range.

    Attributes:
        name: Its word within the plug-in's section of the space file.
        kind: bool, int, float or str.
        default: The value where the file is silent.
        choices: The legal values; empty where ``low`` and ``high`` say it.
        low, high: Inclusive bounds of a number; None where open.
        help: One sentence on what it does.
        when: Where it exists, on top of where its plug-in is active; by full knob names.
    """

    name: str
    kind: type[bool] | type[int] | type[float] | type[str]
    default: Scalar
    choices: tuple[Scalar, ...] = ()
    low: float | None = None
    high: float | None = None
    help: str = ""
    when: Condition = ALWAYS


PRECISIONS = (
    "fp32",
    "bf16",
    "fp16",
    "int8",  # weights and activations, activation ranges fixed by calibration (or by QAT)
    "fp8",  # as int8, in floating point of 8 bits (E4M3)
    "int8_dynamic",  # weights and activations, activation ranges found anew for every request
    "int8_weights",  # the weights alone
    "int4_weights",  # the weights alone, in groups that share a scale
)
"""The words of the knob ``precision``; each backend says which it takes, and where."""

QUANTIZED = Is("precision", ("int8",))
CALIBRATED = Is("precision", ("int8", "fp8"))

PTQ = (
    Parameter("samples", int, 128, low=1, help="calibration samples", when=CALIBRATED),
    Parameter(
        "method",
        str,
        "minmax",
        choices=("minmax", "entropy", "percentile"),
        help="how activation ranges are found from the calibration samples",
        when=QUANTIZED,
    ),
    Parameter(
        "granularity",
        str,
        "channel",
        choices=("channel", "tensor"),
        help="whether each output channel's weights have a scale of their own",
        when=QUANTIZED,
    ),
    Parameter(
        "scheme",
        str,
        "mixed",
        choices=("mixed", "symmetric"),
        help="mixed: symmetric weights, asymmetric activations; symmetric: both around zero",
        when=QUANTIZED,
    ),
    Parameter(
        "keep",
        int,
        0,
        low=0,
        help="how many of the most sensitive layers stay in higher precision",
        when=QUANTIZED,
    ),
)
"""Post-training quantization's shared knobs, where the precision is int8; for fp8 the samples."""

WEIGHTS = (
    Parameter(
        "group",
        int,
        32,
        choices=(16, 32, 64, 128),
        help="how many weights share a scale",
        when=Is("precision", ("int4_weights",)),
    ),
)
"""Weight-only quantization's shared knobs, where the precision is int4_weights."""

SHARED: Mapping[str, tuple[Parameter, ...]] = {"ptq": PTQ, "weights": WEIGHTS}
"""Sections of the space file whose words every backend understands."""
