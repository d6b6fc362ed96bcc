"""The fixed part of the space file as pydantic models: everything but what stands in ``space``."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from autotune.spec.words import shown

UNLIMITED = "unlimited"
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_NAME = re.compile(r"\w[\w. -]{0,99}")


def fault(cause: str, remedy: str) -> PydanticCustomError:
    """An error of ours in pydantic's clothes; ``faults.translate`` takes them off."""
    return PydanticCustomError("spec", "{cause}", {"cause": cause, "remedy": remedy})


def duration(given: object) -> float:
    """Seconds of ``"1h30m"``, ``"4m"``, ``"90s"`` or a number of seconds; infinite if unlimited."""
    remedy = "write it as 90s, 4m, 1h30m or a number of seconds"
    if given == UNLIMITED:
        return math.inf
    if isinstance(given, str):
        match = _DURATION.fullmatch(given.replace(" ", "").lower())
        hours, minutes, seconds = (
            (float(part or 0) for part in match.groups()) if match else [0] * 3
        )
        total = hours * 3600 + minutes * 60 + seconds
        if match is None or not given:
            raise fault(f"'{given}' is not a duration", remedy)
    elif isinstance(given, int | float) and not isinstance(given, bool):
        total = float(given)
    else:
        raise fault(f"expected a duration, not {shown(given)}", remedy)
    if not total > 0:
        raise fault(f"a duration must be longer than 0, not {given}", remedy)
    return total


def _finite(seconds: float) -> float:
    if math.isinf(seconds):
        raise fault("a stage must end some time", "write it as 90s, 4m or 1h30m")
    return seconds


def _scalar(given: object) -> object:
    if not isinstance(given, bool | int | float | str):
        raise fault(
            f"expected a word, a number or true/false, not {shown(given)}",
            "the factory's arguments are plain values, for example width: 16",
        )
    if isinstance(given, float) and not math.isfinite(given):
        raise fault(f"{given} is not a usable number", "write a finite one")
    return given


def _output(given: object) -> object:
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise fault(
            f"expected the position or the name of an output, not {shown(given)}",
            "for example output: 0 or output: logits",
        )
    return given


def _name(given: str) -> str:
    if not _NAME.fullmatch(given):
        raise fault(
            f"'{given[:60]}' cannot name a folder",
            "use letters, digits, '.', '-', '_' and spaces, a letter or digit first",
        )
    return given


def _metric(given: object) -> object:
    return {"metric": given} if isinstance(given, str) else given


def _empty(given: object) -> object:
    return {} if given is None else given


Word = Annotated[str, AfterValidator(_name)]
Duration = Annotated[float, BeforeValidator(duration, json_schema_input_type=str | int | float)]
Argument = Annotated[Any, AfterValidator(_scalar)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ModelSection(_Section):
    """The model as given: a factory with arguments and weights, or an ONNX file."""

    factory: str | None = Field(default=None, examples=["task.py:build_model"])
    args: dict[str, Argument] = Field(default={}, examples=["{width: 16, depth: 2}"])
    weights: str | None = Field(default=None, examples=["teacher.pt"])
    onnx: str | None = Field(default=None, examples=["model.onnx"])
    output: Annotated[Any, AfterValidator(_output)] = Field(default=0, examples=["0"])
    train: str | None = Field(default=None, examples=["task.py:train"])

    @model_validator(mode="after")
    def _one_way(self) -> ModelSection:
        if (self.factory is None) == (self.onnx is None):
            which = "both a factory and" if self.factory else "neither a factory nor"
            raise fault(
                f"the model has {which} an ONNX file",
                "give one: factory: task.py:build_model, or onnx: model.onnx",
            )
        if self.onnx and (self.args or self.weights or self.train):
            raise fault(
                "an ONNX file has its weights inside, takes no arguments and is not trained",
                "remove args, weights and train",
            )
        return self


class MetricSection(_Section):
    """A metric: the name of one that is there, or a function of the user's with its direction."""

    metric: str = Field(examples=["top1", "task.py:score"])
    direction: Literal["min", "max"] | None = Field(default=None, examples=["max"])


class TargetSection(_Section):
    """Hardware to be deployed on, and how it is cut into lanes."""

    lane_cores: int | None = Field(default=None, ge=1, examples=["1"])
    lanes: int = Field(default=1, ge=1, examples=["1"])
    price_per_hour: float | None = Field(default=None, gt=0, allow_inf_nan=False, examples=["0.10"])
    gpu: int | None = Field(default=None, ge=0, examples=["0"])


class BudgetSection(_Section):
    """When the search ends; what is silent comes from the preset."""

    trials: int | None = Field(default=None, ge=1, examples=["48"])
    time: Duration | None = Field(default=None, examples=["4m"])


class File(_Section):
    """The whole file; what stands in ``space`` belongs to the plug-ins."""

    name: Word | None = Field(default=None, examples=["digits"])
    preset: Literal["quick", "default", "extensive"] = Field(
        default="default", examples=["default"]
    )
    seed: int = Field(default=0, ge=0, lt=2**32, examples=["0"])
    model: ModelSection = Field(examples=["{factory: task.py:build_model}"])
    data: str = Field(examples=["task.py:data"])
    metrics: dict[
        str,
        Annotated[
            MetricSection, BeforeValidator(_metric, json_schema_input_type=str | MetricSection)
        ],
    ] = Field(
        default={"accuracy": MetricSection(metric="top1")},
        min_length=1,
        examples=["{accuracy: top1}"],
    )
    objectives: dict[str, Literal["min", "max"]] | None = Field(
        default=None, min_length=1, examples=["{accuracy: max, latency_p50: min}"]
    )
    slo: list[str] = Field(default=[], examples=["[latency_p99 <= 2ms]"])
    scenario: Literal["single_stream", "offline", "server"] = Field(
        default="single_stream", examples=["server"]
    )
    targets: dict[Word, Annotated[TargetSection, BeforeValidator(_empty)]] = Field(
        default={"local": TargetSection()}, min_length=1, examples=["{local: {lane_cores: 1}}"]
    )
    budget: BudgetSection = Field(default=BudgetSection(), examples=["{trials: 48, time: 4m}"])
    sampler: str = Field(default="tpe", examples=["tpe"])
    stage_timeout: Annotated[Duration, AfterValidator(_finite)] = Field(
        default=600.0, examples=["10m"]
    )
    space: dict[str, Any] = Field(examples=["{batch: [1, 8], backend: [torch, onnxruntime]}"])
