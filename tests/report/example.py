"""A run as the digits demo leaves it, made from a seed: its events, to be assembled."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune.runfolder import RunData, assemble, encode_outcome
from autotune.space import Configuration
from autotune.trial import (
    Completed,
    Estimate,
    Failed,
    Measurement,
    Outcome,
    Rejected,
    Stopped,
    Trial,
)

BACKENDS = {
    "torch": ("torch.channels_last", "torch.freeze"),
    "onnxruntime": ("onnxruntime.level", "onnxruntime.conv_fusion"),
    "openvino": ("openvino.hint",),
}
VALUES: Mapping[str, tuple[Any, ...]] = {
    "torch.channels_last": (False, True),
    "torch.freeze": (False, True),
    "onnxruntime.level": ("disabled", "basic", "extended", "all"),
    "onnxruntime.conv_fusion": (True, False),
    "openvino.hint": ("latency", "throughput"),
}
SPEC: Mapping[str, Any] = {
    "name": "digits",
    "preset": "default",
    "seed": 0,
    "model": {"factory": "task.py:build_model", "args": {"width": 16, "depth": 2}},
    "data": "task.py:data",
    "metrics": {"accuracy": {"metric": "top1", "direction": "max"}},
    "objectives": {"accuracy": "max", "latency_p50": "min", "cost": "min"},
    "slo": ["latency_p99 <= 1.5ms", "accuracy >= baseline - 1pt", "minimize cost"],
    "targets": {"local": {"lane_cores": 1, "price_per_hour": 0.1}},
    "budget": {"trials": 48, "time": "4m"},
}
MACHINE: Mapping[str, Any] = {
    "cpu": "AMD EPYC 9R14 96-Core Processor",
    "flags": ["avx2", "avx512_bf16", "avx512_vnni"],
    "cores": [0, 1],
    "memory_bytes": 16_000_000_000,
}
ENVIRONMENT: Mapping[str, Any] = {
    "autotune": "0.1.0",
    "python": "3.11.9",
    "machine": MACHINE,
    "targets": {"local": {"lane_cores": 1, "price_per_hour": 0.1, "machine": MACHINE}},
    "libraries": {"torch": "2.13.0", "onnxruntime": "1.32.0", "openvino": "2026.4.1"},
    "seed": 0,
}


def example(
    trials: int = 48,
    seed: int = 0,
    spec: Mapping[str, Any] = SPEC,
    pick: int | None = None,
    priced: bool = True,
) -> RunData:
    """A finished run of ``trials`` trials; ``pick`` is the trial that its journal names."""
    return assemble(Path("runs/digits"), spec, events(trials, seed, pick, priced))


def events(
    trials: int = 48, seed: int = 0, pick: int | None = None, priced: bool = True
) -> list[Mapping[str, Any]]:
    """The journal of such a run."""
    rng = random.Random(seed)
    found: list[Mapping[str, Any]] = [
        {"event": "open", "at": 1_790_000_000.0, "environment": ENVIRONMENT, "facts": FACTS},
        {"event": "space", "size": 3612, "removed": dict(REMOVED), "notes": [NOTE]},
    ]
    trained: set[str] = set()
    for number in range(trials):
        settings = _baseline(number) if number < 5 else _settings(rng)
        origin = "baseline" if number < 5 else rng.choice(["expert", "sampler", "mutation"])
        outcome = _outcome(rng, settings, number, priced)
        stages = {"data": 0.4, "train": 6.0 + len(settings) / 10, "export": 2.1, "latency": 1.7}
        key = f"{settings.get('student.width')} {settings.get('prune.ratio')}"
        fresh = ["export", "latency"] if key in trained else ["train", "export", "latency"]
        trained.add(key)
        at = 1_790_000_000.0 + 4 * number
        head = {"number": number, "at": at}
        found.append({"event": "trial", "origin": origin, "settings": settings, **head})
        ended = {"event": "outcome", "outcome": encode_outcome(outcome), **head}
        found.append({**ended, "stage_seconds": stages, "executed": fresh})
    if pick is not None:
        found.append({"event": "pick", "trial": pick, "checks": [], "objective": "cost"})
    return [*found, CLOSE]


FACTS = {"samples": {"train": 1169, "calibration": 128, "test": 500}, "parameters": 174_970}
REMOVED = {
    "onnxruntime has no bf16 kernels on this processor": 512,
    "openvino: channels_last is a knob of torch": 96,
}
NOTE = "threads: one lane core, so 1 is the only value"
CLOSE: Mapping[str, Any] = {
    "event": "close",
    "at": 1_790_000_222.0,
    "why": "budget",
    "summary": {
        "wall_s": 222.4,
        "stages_executed": 131,
        "stages_needed": 288,
        "trainings_executed": 11,
        "trainings_needed": 41,
        "overhead_s_per_trial": 0.064,
    },
}


def _baseline(number: int) -> dict[str, Any]:
    plain = {"backend": "torch", "precision": "fp32", "threads": 1, "prune.structure": "none"}
    given = {"student.width": 16, "student.depth": 2}
    knobs = {"torch.channels_last": False, "torch.freeze": False}
    return {**plain, **given, **knobs, "batch": 2**number}


def _settings(rng: random.Random) -> dict[str, Any]:
    backend = rng.choice(list(BACKENDS))
    settings: dict[str, Any] = {
        "backend": backend,
        "precision": rng.choice(["fp32", "int8", "int8", "bf16"]),
        "batch": rng.choice([1, 1, 2, 4, 8, 16]),
        "threads": 1,
        "student.width": rng.choice([16, 8]),
        "student.depth": rng.choice([2, 1]),
        "prune.structure": rng.choice(["none", "channel"]),
    }
    if settings["prune.structure"] == "channel":
        settings["prune.ratio"] = rng.choice([0.3, 0.5])
    if settings["precision"] == "int8":
        settings |= {"ptq.samples": rng.choice([32, 128]), "ptq.method": "minmax"}
    return settings | {name: rng.choice(VALUES[name]) for name in BACKENDS[backend]}


def _outcome(rng: random.Random, settings: Mapping[str, Any], number: int, priced: bool) -> Outcome:
    draw = rng.random()
    if number >= 5 and draw < 0.06:
        error = "cosine 0.41 against the stage before it: the conversion changed the function"
        return Failed("quantize", error, "Traceback (most recent call last): ...")
    if number >= 5 and draw < 0.16:
        reason = "even the best accuracy of a relative would not put it on the front"
        return Stopped(reason, {"latency_p50_ms": 1.4})
    if number >= 5 and draw < 0.18:
        return Rejected("onnxruntime has no bf16 kernels on this processor")
    return Completed(Measurement(_values(rng, settings, priced), _facts(settings), "ab12"))


def _facts(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    kernels = {settings["precision"]: 21, "fp32": 3}
    return {"provider": settings["backend"], "threads": 1, "kernels": kernels}


def _values(
    rng: random.Random, settings: Mapping[str, Any], priced: bool
) -> Mapping[str, Estimate]:
    speed = {"torch": 1.9, "onnxruntime": 0.5, "openvino": 0.42}[settings["backend"]]
    speed *= {"fp32": 1.0, "bf16": 0.8, "int8": 0.5}[settings["precision"]]
    speed *= 0.55 if settings["student.depth"] == 1 else 1.0
    speed *= 1 - 0.5 * float(settings.get("prune.ratio", 0))
    p50 = speed * (0.35 + 0.65 * settings["batch"]) * math.exp(rng.gauss(0, 0.08))
    p99 = p50 * rng.uniform(1.06, 1.4)
    small = 0.004 * (settings["student.width"] == 8) + 0.006 * (settings["student.depth"] == 1)
    loss = small + 0.012 * float(settings.get("prune.ratio", 0))
    loss += rng.uniform(0, 0.006) * (settings["precision"] == "int8")
    correct = round((0.994 - loss) * 500) / 500
    throughput = 1000 * settings["batch"] / (p50 * 1.01)
    parameters, macs = _work(settings)
    size = 4 * parameters * (0.27 if settings["precision"] == "int8" else 1)
    values = {
        "accuracy": Estimate(correct, correct - 0.011, min(1.0, correct + 0.007)),
        "latency_p50_ms": Estimate(p50, p50 * 0.99, p50 * 1.012),
        "latency_p90_ms": Estimate(p50 * 1.03, p50 * 1.01, p50 * 1.05),
        "latency_p99_ms": Estimate(p99, p99 * 0.97, p99 * 1.09 if rng.random() < 0.9 else None),
        "throughput_per_s": Estimate(throughput, throughput * 0.99, throughput * 1.01),
        "size_bytes": Estimate(size * rng.uniform(0.95, 1.05)),
        "parameters": Estimate(parameters),
        "macs": Estimate(macs),
        "sparsity": Estimate(0.0),
        "memory_peak_bytes": Estimate(31e6),
        "load_seconds": Estimate(0.21),
    }
    cost = 0.05 / 3600 / throughput * 1e6
    return values | ({"cost_usd_per_million": Estimate(cost)} if priced else {})


def _work(settings: Mapping[str, Any]) -> tuple[float, float]:
    """Parameters and multiply-accumulates: both go with the square of the channels that are left"""
    share = (settings["student.width"] / 16) ** 2 * settings["student.depth"] / 2
    share *= (1 - settings.get("prune.ratio", 0)) ** 2
    return round(174_970 * share), round(12_690_000 * share)


def columns(run: RunData) -> Sequence[str]:
    """Every column that some trial measured."""
    return sorted({c for t in run.trials if t.measurement for c in t.measurement.values})


def serving(trials: int = 48, seed: int = 0) -> RunData:
    """The same run behind a dynamic batcher: rates in the place of latencies one by one."""
    run = example(trials, seed)
    rng = random.Random(seed)
    rate = {"accuracy": "max", "server_rate": "max", "cost": "min"}
    limits = ["latency_p99 <= 5ms", "accuracy >= baseline - 1pt", "minimize cost"]
    spec = {**SPEC, "scenario": "server", "objectives": rate, "slo": limits}
    found = [_served(trial, rng) for trial in run.trials if trial.number not in range(1, 5)]
    events = [event for t in found for event in _written(t)]
    return assemble(Path("runs/serving"), spec, [*run.events[:2], *events, CLOSE])


def _served(trial: Trial, rng: random.Random) -> Trial:
    batch = 1 if trial.origin == "baseline" else rng.choice([1, 4, 16])
    knobs: dict[str, Any] = {**trial.configuration, "batch": 1, "server.max_batch": batch}
    if batch > 1:
        knobs["server.max_queue_delay_ms"] = rng.choice([0.0, 1.0])
    point = Configuration(tuple(sorted(knobs.items())))
    if trial.measurement is None:
        return replace(trial, configuration=point)
    rate = 900 / trial.measurement["latency_p50_ms"] * (1 + 0.2 * math.log(batch))
    rate = 0.0 if rng.random() < 0.1 else rate
    values = {c: e for c, e in trial.measurement.values.items() if c != "throughput_per_s"}
    values["latency_p99_ms"] = Estimate(4.8, 4.6, 4.95) if rate else Estimate(7.0)
    values["server_rate_per_s"] = Estimate(rate, rate, 1.03 * rate if rate else 90.0)
    values["cost_usd_per_million"] = Estimate(0.05 / 3600 / (rate or 1.0) * 1e6)
    reason = ""
    if not rate:
        del values["cost_usd_per_million"]
        reason = "no rate meets p99 <= 5 ms: at 90 requests/s the p99 is 7 ms"
    served = Completed(Measurement(values, trial.measurement.facts, "ab12"), reason=reason)
    return replace(trial, configuration=point, outcome=served)


def _written(trial: Trial) -> list[Mapping[str, Any]]:
    """The journal's events of a finished trial."""
    assert trial.outcome is not None
    head = {"number": trial.number, "at": 1_790_000_000.0 + 4 * trial.number}
    begun = {"event": "trial", "origin": trial.origin, "settings": dict(trial.configuration)}
    ended = {"event": "outcome", "outcome": encode_outcome(trial.outcome)}
    return [{**begun, **head}, {**ended, **head, "stage_seconds": dict(trial.stage_seconds)}]
