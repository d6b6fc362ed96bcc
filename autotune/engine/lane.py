"""The stage that measures latency: one plain child process, pinned to a lane of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.contracts import StageContext
from autotune.engine.execute import UNFINISHED
from autotune.engine.progress import teller
from autotune.errors import StageError
from autotune.hardware import lane, machine
from autotune.target import Target
from autotune.version import __version__

SAMPLES = "samples.npy"
RACE = "race"
"""The hint of a stage that may be given up: ``give_up_above_ms``, a limit on the median."""


def latency(context: StageContext) -> Mapping[str, Any]:
    """Latencies of one configuration in a fresh process on an exclusive lane.

    Raises:
        StageError: The process crashed, ran out of time, or found that it cannot measure.
    """
    target = Target.from_record(context.stage.hints["target"])
    with lane(target, teller(context.scratch)) as cores:
        return measure(context, cores, target)


def measure(context: StageContext, cores: tuple[int, ...], target: Target) -> Mapping[str, Any]:
    """Run the measuring child on ``cores``, a lane of the target's, and read what it wrote."""
    race = context.stage.hints.get(RACE)
    limit = {"give_up_above_ms": race["give_up_above_ms"]} if race else {}
    request = {
        **context.parameters,
        "effort": {**context.parameters["effort"], **limit},
        "cores": cores,
        "ahead": not target.shared,
        "artifact": str(context.inputs[0]),
        "data": str(context.inputs[1]),
        "samples": str(context.out / SAMPLES),
        "reference": str(_reference(cores)),
    }
    answer = ask("autotune.engine.child", request, context.out, context.stage.timeout_s)
    return {**answer, UNFINISHED: True} if race and answer["gave_up"] else answer


def ask(
    module: str, request: Mapping[str, Any], folder: Path, timeout_s: float
) -> Mapping[str, Any]:
    """What a child process answers: ``module`` gets the request's file, which names the answer's.

    Raises:
        StageError: The process crashed, ran out of time, or says that it cannot do it.
    """
    asked, answer = folder / "request.json", folder / "answer.json"
    asked.write_text(json.dumps({**request, "parent": os.getpid(), "answer": str(answer)}))
    code, errors = _child(module, asked, int(request["threads"]), timeout_s)
    if not answer.exists():
        raise StageError(f"the measuring process {_ended(code)}{_tail(errors)}")
    result: dict[str, Any] = json.loads(answer.read_text())
    asked.unlink()
    answer.unlink()
    if "error" in result:
        raise StageError(result["error"])
    return result


def _reference(cores: tuple[int, ...]) -> Path:
    """Where measurements on these cores keep how fast the machine is when nothing disturbs it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    about = [__version__, machine().cpu, list(cores), boot.read_text() if boot.exists() else ""]
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"autotune-reference-{os.getuid()}" / f"{name}.json"


def _child(module: str, request: Path, threads: int, timeout_s: float) -> tuple[int, str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(request)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        _, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise StageError(f"the measurement took longer than {timeout_s:.0f} s") from error
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, errors


def _ended(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _tail(errors: str) -> str:
    lines = [line for line in errors.strip().splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""
