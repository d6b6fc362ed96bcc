"""Every seam of autotune on one page: what a plug-in of each kind must be.

A plug-in is a *module*: the file ``autotune/backends/openvino.py`` (or a module behind the entry
point ``autotune.backends``) is the backend ``openvino``, and its module-level functions implement
the protocol below. Importing a plug-in is cheap: heavy libraries are imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from autotune.artifact import Stage
from autotune.slo import Direction
from autotune.space import ALWAYS, Condition, Configuration, Is, Scalar, Settings, Space
from autotune.target import Target
from autotune.task import Blueprint, Lesson, ModelSource
from autotune.trial import Trial

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    Arrays = Mapping[str, NDArray[np.generic]]
    Floats = NDArray[np.floating[Any]]


# ---- words that plug-ins share -------------------------------------------------------------------


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
    "int8_dynamic",  # weights and activations, activation ranges found anew for every request
    "int8_weights",  # the weights alone
    "int4_weights",  # the weights alone, in groups that share a scale
)
"""The words of the knob ``precision``; each backend says which it takes, and where."""

QUANTIZED = Is("precision", ("int8",))

PTQ = (
    Parameter("samples", int, 128, low=1, help="calibration samples", when=QUANTIZED),
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
"""Post-training quantization's shared knobs, where the precision is int8."""

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


@dataclass(frozen=True)
class Rejection:
    """Why a combination cannot run. ``kind`` tells a gap of ours from one that will stay."""

    kind: Literal["not yet ours", "not yet upstream", "not on this target", "never"]
    reason: str


# ---- stages --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StageContext:
    """What a stage's function gets: folders to read, an empty one to fill, its own parameters.

    ``scratch`` is a folder of this stage's own that survives a kill, for checkpoints. The function
    returns facts about what it did (JSON values); they are kept with the artifact.
    """

    stage: Stage
    inputs: tuple[Path, ...]
    out: Path
    scratch: Path

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self.stage.parameters


StageFunction = Callable[[StageContext], Mapping[str, Any]]


# ---- techniques ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TechniqueContext:
    """What a technique may use beside the network.

    Attributes:
        build: A fresh network from its blueprint.
        blueprint: How a fresh copy of the network that came in is built.
        train_x, train_y: Training data; x by input name, each of shape (samples, ...).
        teacher_logits: The given model's outputs over ``train_x``, shape (samples, classes); None
            where the technique did not ask for them.
        teacher_features: What its last linear layer read for them, shape (samples, features); None
            where it has no such layer.
        seed: For every random choice.
        checkpoint: A file that a long training may write to and resume from after a kill.
        output: Which of the network's outputs is the prediction.
        report: Is told how far a long training is, one line at a time.
        train: The user's own training, called instead of the shared loop; None for the loop.
    """

    build: Callable[[Blueprint], nn.Module]
    blueprint: Blueprint
    train_x: Arrays
    train_y: NDArray[np.generic] | None
    teacher_logits: Floats | None
    teacher_features: Floats | None
    seed: int
    checkpoint: Path
    output: int | str = 0
    report: Callable[[str], None] = field(default=lambda _: None)
    train: Callable[[nn.Module, Lesson], nn.Module | None] | None = None


class Technique(Protocol):
    """A transformation of the network: torch in, torch out. One module a technique."""

    summary: str
    position: int
    """Techniques run in this order: student 10, prune 20, recover 30, quantize-aware 40."""
    sections: tuple[str, ...]
    """The sections of the space file it reads; their knobs, and only they, enter its key."""
    needs_data: bool
    needs_teacher: bool
    libraries: tuple[str, ...]

    def parameters(self, model: ModelSource) -> Mapping[str, tuple[Parameter, ...]]:
        """Its knobs, by section."""
        ...

    def when(self, model: ModelSource) -> Condition:
        """Where its stage exists. Knobs that this condition itself reads always exist."""
        ...

    def reject(self, settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
        """Why these active settings cannot run, known before any trial; None if they can."""
        ...

    def trains(self, settings: Settings) -> bool:
        """Whether it runs the training loop: the dear work that trials should share."""
        ...

    def shapes(self, settings: Settings) -> tuple[str, ...] | None:
        """The sections that alone decide the shapes it makes.

        None of them (``()``) where it keeps the shapes; None where they hang on what the weights
        are, so that only ``apply`` can tell them.
        """
        ...

    def apply(
        self, network: nn.Module, settings: Settings, context: TechniqueContext
    ) -> tuple[nn.Module, Blueprint]:
        """The network transformed, and the blueprint of its fresh copy."""
        ...

    def structure(
        self, network: nn.Module, settings: Settings, context: TechniqueContext
    ) -> tuple[nn.Module, Blueprint]:
        """As ``apply``, but without training: the same shapes, from the sections ``shapes`` alone.

        Latency hangs on shapes, not on what the weights are, so it can be had before any training.
        """
        ...


# ---- backends ------------------------------------------------------------------------------------


class Session(Protocol):
    """A model loaded and ready."""

    def run(self, batch: Arrays) -> Floats:
        """The prediction for one batch, host in, host out; blocks until it is done."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """What really runs: ``provider``, ``threads``, ``kernels`` (precision -> count), more."""
        ...


class Backend(Protocol):
    """A runtime; it owns everything from ONNX (or torch) onward. One module a backend."""

    summary: str
    libraries: tuple[str, ...]
    """Distributions whose versions shape what it makes and how fast it runs."""

    def unavailable(self) -> str | None:
        """Why it cannot be used here, and what would help; None if it can."""
        ...

    def parameters(self) -> tuple[Parameter, ...]:
        """Its own knobs; ``level`` of ``onnxruntime`` is the knob ``onnxruntime.level``."""
        ...

    def reject(self, settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
        """Why these active settings cannot run, known before any trial; None if they can."""
        ...

    def depends_on_batch(self, settings: Settings) -> bool:
        """Whether a sample's result hangs on the others in its batch (dynamic ranges)."""
        ...

    def stages(self, settings: Settings, model: Stage, data: Stage) -> Stage:
        """From the model (a network or ONNX artifact) to the artifact that ``open`` loads."""
        ...

    def open(
        self, artifact: Path, settings: Settings, batch: int, threads: int
    ) -> AbstractContextManager[Session]:
        """The artifact loaded for requests of ``batch`` samples on ``threads`` threads."""
        ...


# ---- samplers, metrics ---------------------------------------------------------------------------


class Suggest(Protocol):
    """Proposes points. It may keep a cache, but what it says is a function of its arguments."""

    def __call__(self, history: Sequence[Trial], seed: int) -> Configuration | None:
        """A feasible point that the history does not hold; None where none is left."""
        ...


class Sampler(Protocol):
    """A way to choose what to try next. One module a sampler."""

    summary: str

    def sampler(self, space: Space, objectives: Mapping[str, Direction]) -> Suggest:
        """A proposer for ``space``; objectives are trial columns and their better direction."""
        ...


class Metric(Protocol):
    """A figure of merit computed from predictions. One module a metric."""

    summary: str
    direction: Direction
    needs_labels: bool

    def score(self, predictions: Floats, labels: NDArray[np.generic] | None) -> float:
        """The figure for predictions of shape (samples, ...); a fraction is in [0, 1]."""
        ...

    def per_sample(self, predictions: Floats, labels: NDArray[np.generic] | None) -> Floats | None:
        """Each sample's share, shape (samples,), whose mean is the score; None if it has none."""
        ...
