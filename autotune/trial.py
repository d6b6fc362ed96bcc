"""A trial: one configuration, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from autotune.space import Configuration

Origin = Literal["baseline", "expert", "sampler", "mutation", "external"]


@dataclass(frozen=True)
class Estimate:
    """A measured number with its 95 % interval; a bound is None where the samples cannot tell it.

    Raises:
        ValueError: The value is not finite.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"a measurement must be finite, not {self.value}")


@dataclass(frozen=True)
class Measurement:
    """What was measured of one configuration, by column (``latency_p50_ms``, ``accuracy``, ...).

    ``facts`` says what really ran (provider, kernels and their precision, threads); ``samples`` is
    the key of the artifact with the raw latencies.
    """

    values: Mapping[str, Estimate]
    facts: Mapping[str, Any] = field(default_factory=dict)
    samples: str = ""

    def __getitem__(self, column: str) -> float:
        return self.values[column].value


@dataclass(frozen=True)
class Completed:
    """Measured to the end; ``reason`` says what could not be had: a rate that meets the limit."""

    measurement: Measurement
    word: Literal["completed"] = "completed"
    reason: str = ""


@dataclass(frozen=True)
class Stopped:
    """Ended early, because its result could no longer matter; ``evidence`` is what decided."""

    reason: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    word: Literal["stopped"] = "stopped"


@dataclass(frozen=True)
class Rejected:
    """Known to be impossible before it began."""

    reason: str
    word: Literal["rejected"] = "rejected"


@dataclass(frozen=True)
class Failed:
    """A stage failed: which, why, and the traceback where there is one."""

    stage: str
    error: str
    traceback: str = ""
    word: Literal["failed"] = "failed"

    @property
    def reason(self) -> str:
        return f"{self.stage}: {self.error}"


Outcome = Completed | Stopped | Rejected | Failed


@dataclass(frozen=True)
class Trial:
    """One configuration, one row. ``outcome`` is None while it runs.

    Attributes:
        number: Its place in the run, from 0.
        configuration: What was tried.
        origin: Who proposed it.
        outcome: How it ended.
        stage_seconds: Seconds of every stage of its chain, by stage name, shared ones included.
        executed: The names of the stages that ran for it and were not there before.
    """

    number: int
    configuration: Configuration
    origin: Origin
    outcome: Outcome | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    executed: tuple[str, ...] = ()

    @property
    def measurement(self) -> Measurement | None:
        return self.outcome.measurement if isinstance(self.outcome, Completed) else None


def doubt(trial: Trial) -> str:
    """Why the trial's latencies are to be doubted: what else ran; "" where nothing disturbed."""
    facts = trial.measurement.facts if trial.measurement else {}
    who = f"{'the baseline, ' * (trial.origin == 'baseline')}trial {trial.number},"
    if not facts.get("noisy"):
        failed = facts.get("confirmed", {}).get("rounds") == 0
        return f"{who} could not be measured again, undisturbed, to confirm it" if failed else ""
    told = f"{facts.get('disturbed_blocks', '?')} of {facts.get('blocks', '?')} blocks disturbed"
    if facts.get("run_queue_share") is not None:
        told += f", {facts['run_queue_share']:.0%} of their time spent waiting for a core"
    if facts.get("reference_ratio") is not None:
        told += f", the reference {facts['reference_ratio']:.2f} times as slow as undisturbed"
    return f"{who} was measured while something else ran ({told})"
