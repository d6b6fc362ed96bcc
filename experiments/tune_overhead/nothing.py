"""Stages that do nothing, and the plan that is made of them. Ray's workers import this file."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.engine.plan import Plan
from autotune.space import Configuration


def plan(configuration: Configuration) -> Plan:
    """Three stages a trial, as the shortest real one has: artifact, accuracy, latency."""
    artifact = _stage("artifact", "made", configuration.key)
    return Plan(
        artifact,
        _stage("accuracy", "judged", configuration.key, artifact),
        _stage("latency", "timed", configuration.key, artifact, lane="local"),
    )


def objective(key: str) -> dict[str, float]:
    """Values without a pattern, so that the sampler has something to order."""
    draw = zlib.crc32(key.encode()) / 2**32
    return {"accuracy": 1 - draw / 10, "latency_p50_ms": 0.1 + (7919 * draw) % 1}


def made(context: StageContext) -> Mapping[str, Any]:
    return {}


def judged(context: StageContext) -> Mapping[str, Any]:
    value = objective(context.parameters["key"])["accuracy"]
    columns = {"accuracy": {"value": value, "low": None, "high": None}}
    return {"columns": columns, "runtime": {}, "check": {}, "size_bytes": 1}


def timed(context: StageContext) -> Mapping[str, Any]:
    value = objective(context.parameters["key"])["latency_p50_ms"]
    ends = {"low": None, "high": None}
    columns = {
        "latency_p50_ms": {"value": value, **ends},
        "throughput_per_s": {"value": 1e3 / value, **ends},
    }
    return {"columns": columns}


def _stage(name: str, function: str, key: str, *inputs: Stage, lane: str = "") -> Stage:
    return Stage(
        name=name,
        function=f"nothing:{function}",
        kind="network",
        parameters={"key": key},
        inputs=inputs,
        lane=lane,
    )
