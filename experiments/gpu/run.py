"""Networks of the shapes of ResNet-50 and BERT-base on a GPU: every backend that can run there.

Each point is measured in a fresh process, host to host, the copies included; with the device's own
time beside it and, where the GPU's peaks are known (``autotune.roofline``), its ratio to the
roofline floor. The baseline is PyTorch eager FP32. The digits space is searched unless
``--no-digits``.

``--rehearse`` tries the script on the cores with small networks, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
SHAPES = {"resnet50": (3, 224, 224), "bert_base": (128,)}
SMALL = {"small_resnet": (3, 32, 32), "small_bert": (16,)}
BATCHES = (1, 64)
SAMPLES = 256
SECONDS = 5.0
_FP16 = {"precision": "fp16"}
POINTS: tuple[Mapping[str, Any], ...] = (
    {"backend": "torch"},
    {"backend": "torch", "tf32": True, "cuda_graph": True},
    {"backend": "torch", **_FP16, "cast": "network", "channels_last": True},
    {"backend": "torch", **_FP16, "cast": "network", "channels_last": True, "cuda_graph": True},
    {"backend": "torch", **_FP16, "cast": "network", "compile": True, "mode": "max-autotune"},
    {"backend": "onnxruntime", "tf32": True},
    {"backend": "onnxruntime", **_FP16},
    {"backend": "onnxruntime", **_FP16, "cuda_graph": True},
    {"backend": "onnxruntime", "provider": "tensorrt"},
    {"backend": "tensorrt", "tf32": True},
    {"backend": "tensorrt", **_FP16},
    {"backend": "tensorrt", **_FP16, "level": 5},
    {"backend": "tensorrt", "precision": "int8"},
    {"backend": "tensorrt", "precision": "int8", "level": 5},
    {"backend": "tensorrt", "precision": "fp8"},
    {"backend": "tensorrt", "precision": "fp8", "level": 5},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-digits", action="store_true", help="leave the digits space out")
    parser.add_argument("--rehearse", action="store_true", help="on the cores, nothing is written")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(json.loads(options.point))))
        return
    from autotune.hardware import accelerators

    found = accelerators()
    if not found.gpus and not options.rehearse:
        sys.exit(f"{found.missing}: {found.remedy}")
    with tempfile.TemporaryDirectory() as store:
        shapes = SMALL if options.rehearse else SHAPES
        gpu = None if options.rehearse else asdict(found.gpus[0])
        rows = [row for net in shapes for row in network(net, shapes[net], gpu, store)]
    if options.rehearse:
        print(json.dumps(rows, indent=1))
        return
    from record import publish

    digits = None if options.no_digits else searched()
    title = f"ResNet-50 and BERT-base shapes on {found.gpus[0].name}"
    publish(__file__, title, rows, gpu=gpu, digits=digits)


def network(
    net: str, shape: Sequence[int], gpu: Mapping[str, Any] | None, store: str
) -> list[dict[str, Any]]:
    """A row for each point and batch, the baseline first; times are against it."""
    rows = []
    for batch in BATCHES if gpu else BATCHES[:1]:
        points = [{"net": net, "shape": shape, "batch": batch, "gpu": gpu, "store": store, "set": s}
                  for s in POINTS]  # fmt: skip
        found = [_child(point) for point in points]
        eager = found[0].get("p50_ms")
        rows += [_row(answer, eager, batch, gpu) for answer in found]
    return rows


def _row(
    found: dict[str, Any], eager: float | None, batch: int, gpu: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The columns of the table, whatever the point could tell."""
    floor = _floor_ms(found, batch, gpu)
    device, p50 = found.get("device_ms"), found.get("p50_ms")
    return {
        **{k: found[k] for k in ("net", "batch", "backend", "asked")},
        **{k: found.get(k) for k in ("p50_ms", "p99_ms", "device_ms", "kernels")},
        "times_eager": eager / p50 if eager and p50 else None,
        "device_over_floor": device / floor if device and floor else None,
        "reason": found.get("reason", ""),
    }


def measure(point: Mapping[str, Any]) -> dict[str, Any]:
    """One point, in this process: a row; with a reason in the place of figures if it cannot run."""
    from autotune import hardware, plugins
    from autotune.engine import execute
    from autotune.errors import AutotuneError
    from autotune.measure import alone
    from autotune.store.artifacts import Store
    from autotune.target import Gpu, Target

    gpu, asked = point["gpu"], dict(point["set"])
    name, batch = asked.pop("backend"), int(point["batch"])
    backend = plugins.load("backends", name)
    target = Target("here", 1, 1, None, hardware.machine(), Gpu(**gpu) if gpu else None)
    model, network, data = _sources(point)
    settings = _settings(name, asked, batch, target)
    row = {"net": point["net"], "batch": batch, "backend": name, "asked": asked, "p50_ms": None}
    reason = backend.unavailable() or backend.reject(settings, target, model)
    if reason:
        return {**row, "reason": str(getattr(reason, "reason", reason))}
    try:
        made = _made(execute, backend.stages(settings, network, data), point["store"])
        artifact = Store(Path(point["store"])).open(made)
        assert artifact is not None
        requests = _requests(point["shape"], batch)
        with backend.open(artifact, settings, batch, 1) as session:
            seconds = SECONDS if gpu else 0.3
            timed = alone.latency(session.run, requests, seconds=seconds, batch=batch)
            facts = session.facts()
    except AutotuneError as error:
        return {**row, "reason": " ".join(str(error).split())[:300]}
    figures = {"p50_ms": timed.p50.value, "p99_ms": timed.p99.value}
    told = {"device_ms": facts.get("device_ms"), "kernels": facts["kernels"]}
    return {**row, **figures, **told, **_counted(model, requests[0])}


def _sources(point: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The model, and the stages that write it and its data."""
    from autotune.artifact import Stage
    from autotune.task import CodeRef, ModelSource

    model = ModelSource(CodeRef(str(HERE / "nets.py"), point["net"]))
    network = Stage(
        "given", "autotune.engine.build:given", "network", parameters={"model": model.record()}
    )
    about = {"shape": list(point["shape"])}
    return model, network, Stage("data", "run:write_data", "data", parameters=about)


def _settings(name: str, asked: Mapping[str, Any], batch: int, target: Any) -> dict[str, Any]:
    """A configuration: what is asked, the defaults of every other knob that exists there."""
    from autotune import plugins
    from autotune.contracts import PTQ

    precision = asked.get("precision", "fp32")
    found = {"precision": precision, "backend": name, "batch": batch, "threads": 1}
    found |= {"device": target.device, **target.words}
    shared = {f"ptq.{word.name}": word for word in PTQ}
    own = {f"{name}.{word.name}": word for word in plugins.load("backends", name).parameters()}
    for word, parameter in {**shared, **own}.items():
        if parameter.when.holds(found):
            found[word] = asked.get(parameter.name, parameter.default)
    if precision == "int8":
        found["ptq.scheme"] = "symmetric"
    return found


def _made(execute: Any, stage: Any, store: str) -> str:
    """The key of a stage's artifact, made with all before it unless the store has it."""
    inputs = [_result(execute, one, store) for one in stage.inputs]
    return str(_ok(execute.run(stage, store, None, False, *inputs)).key)


def _result(execute: Any, stage: Any, store: str) -> Any:
    inputs = [_result(execute, one, store) for one in stage.inputs]
    return _ok(execute.run(stage, store, None, False, *inputs))


def _ok(result: Any) -> Any:
    from autotune.errors import StageError

    if not result.ok:
        raise StageError(f"{result.stage}: {result.error}")
    return result


def write_data(context: Any) -> Mapping[str, Any]:
    """A stage function: random images, or random tokens where a sample has one axis."""
    from autotune.conversion import arrays

    x = _random(context.parameters["shape"], SAMPLES)
    parts = dict.fromkeys(("calibration", "test"), ({"input": x}, None))
    return arrays.write(context.out, parts)


def _random(shape: Sequence[int], count: int) -> Any:
    import numpy as np

    draw = np.random.default_rng(0)
    if len(shape) == 1:
        return draw.integers(0, 30522, (count, *shape))
    return draw.normal(size=(count, *shape)).astype(np.float32)


def _requests(shape: Sequence[int], batch: int) -> list[dict[str, Any]]:
    """Sixteen distinct ones."""
    x = _random(shape, 16 + batch)
    return [{"input": x[start : start + batch]} for start in range(16)]


def _counted(model: Any, request: Mapping[str, Any]) -> dict[str, float]:
    """Multiply-accumulates of a sample, and the weights that a request reads."""
    from autotune.training import network, size

    told = size.of(network.given(model), request)
    return {"macs": told["macs"], "read": told["parameters_read"]}


def _floor_ms(found: Mapping[str, Any], batch: int, gpu: Mapping[str, Any] | None) -> float | None:
    from autotune.roofline import PEAKS, floor_ms

    peak = PEAKS.get(gpu["name"]) if gpu else None
    if peak is None or "macs" not in found:
        return None
    asked = found["asked"]
    precision = "tf32" if asked.get("tf32") else asked.get("precision", "fp32")
    return floor_ms(peak, precision, found["macs"] * batch, found["read"])


def _child(point: Mapping[str, Any]) -> dict[str, Any]:
    """A row from a fresh process; one that says so where the process ended badly."""
    done = subprocess.run(
        [sys.executable, __file__, "--point", json.dumps(point)],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE,
    )
    if done.returncode == 0:
        row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        print({k: row.get(k) for k in ("net", "batch", "backend", "asked", "p50_ms", "reason")})
        return row
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    about = {"net": point["net"], "batch": point["batch"], "backend": point["set"]["backend"]}
    print({**about, "reason": last})
    return {**about, "asked": dict(point["set"]), "p50_ms": None, "reason": last[:300]}


def searched() -> dict[str, Any]:
    """The digits space on the GPU: its pick against the baseline at the same batch."""
    import autotune

    space = HERE.parents[1] / "search_spaces" / "digits" / "nvidia.yaml"
    with tempfile.TemporaryDirectory() as out:
        run = autotune.run(space, out=Path(out) / "run")
        picked = run.pick()
        return {"trials": len(run.trials), "pick": str(picked)}


if __name__ == "__main__":
    main()
