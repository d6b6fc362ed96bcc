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
from autotune.parameter import PRECISIONS as PRECISIONS
from autotune.parameter import PTQ as PTQ
from autotune.parameter import QUANTIZED as QUANTIZED
from autotune.parameter import SHARED as SHARED
from autotune.parameter import Parameter as Parameter
from autotune.profile import Profile
from autotune.slo import Direction
from autotune.space import Condition, Configuration, Settings, Space
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

    def measures(self, settings: Settings) -> bool:
        """Whether what it makes hangs on the machine's speed: its key then holds the machine."""
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


class Profiles(Protocol):
    """What a backend may have beside that: its runtime's own profiler."""

    def profile(
        self,
        artifact: Path,
        settings: Settings,
        batch: int,
        threads: int,
        requests: Sequence[Arrays],
    ) -> Profile:
        """Where the time of a request goes, seen while the artifact, loaded anew, ran each once."""
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
    fraction: bool
    """Whether it lies in [0, 1], so that a limit without a unit can be told from points."""

    def score(self, predictions: Floats, labels: NDArray[np.generic] | None) -> float:
        """The figure for predictions of shape (samples, ...)."""
        ...

    def per_sample(self, predictions: Floats, labels: NDArray[np.generic] | None) -> Floats | None:
        """Each sample's share, shape (samples,), whose mean is the score; None if it has none."""
        ...
