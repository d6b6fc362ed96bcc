"""What each backend can really run here: a tiny network taken through its stages and executed.

``autotune doctor`` shows it. A process of its own (``python -m autotune.engine.probing`` and the
request's file) tries the precisions of one backend; what kills it costs the precision it was at.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from autotune import hardware, plugins
from autotune.artifact import Stage
from autotune.contracts import PRECISIONS, SHARED
from autotune.engine import execute, given, intake
from autotune.engine.child import die_with
from autotune.engine.plan import Effort, Needs, Subject, plan
from autotune.space import Configuration, Scalar
from autotune.target import Target
from autotune.task import CodeRef, ModelSource

MOST_S = 35.0
"""All probes together; what has not been tried by then is said not to be."""
STAGE_S = 15.0
"""One stage of a probe: longer than any takes, on a network of this size."""
_TASK = str(Path(__file__).parent / "probed" / "task.py")
_SAMPLES = 32
_LINES = 300


@dataclass(frozen=True)
class Probe:
    """Whether a backend runs a precision on this machine.

    Attributes:
        backend, precision: What was tried.
        verdict: runs; fails, where it was tried; rejected, where it is declared that it cannot.
        reason: Why it does not run; "" where it does.
        kernels: How many convolutions and matrix products ran in each precision.
        seconds: What converting and running the network took.
    """

    backend: str
    precision: str
    verdict: Literal["runs", "fails", "rejected", "not tried"]
    reason: str = ""
    kernels: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def probe(target: Target, most_s: float = MOST_S, stage_s: float = STAGE_S) -> Iterator[Probe]:
    """Every precision of every backend that is installed, a backend's at a time as it ends.

    Args:
        target: The machine; the probes keep to its preparing cores.
        most_s: Seconds for all of them.
        stage_s: Seconds after which a stage of a probe is ended.

    Raises:
        UserError: Not even the network itself can be built here (torch is missing, no disk).
    """
    deadline = time.monotonic() + most_s
    model = ModelSource(CodeRef(_TASK, "build"))
    with tempfile.TemporaryDirectory(prefix="autotune-probe-") as folder:
        root = Path(folder)
        process = intake.start(model, CodeRef(_TASK, "data"), {}, root / "store", Needs())
        subject, _ = intake.finish(process, seed=0, timeout_s=most_s)
        request = {
            "store": str(root / "store"),
            "model": subject.model.record(),
            "code": subject.source.parameters["code"],
            "data": subject.data.parameters["fingerprint"],
            "cores": target.preparing,
            "stage_s": stage_s,
            "parent": os.getpid(),
        }
        for name in plugins.names("backends"):
            backend = plugins.load("backends", name)
            if backend.unavailable():
                continue
            said = {
                word: backend.reject(_defaults(name, word), target, model) for word in PRECISIONS
            }
            tried = [word for word, why in said.items() if why is None]
            yield from _tried({**request, "backend": name}, tried, root, deadline)
            for word, why in said.items():
                if why is not None:
                    yield Probe(name, word, "rejected", f"{why.kind}: {why.reason}")


def _tried(
    request: Mapping[str, Any], words: Sequence[str], root: Path, deadline: float
) -> Iterator[Probe]:
    """The precisions ``words`` of a backend; a process that dies is begun again after the word."""
    name, left = request["backend"], list(words)
    while left and time.monotonic() < deadline:
        answer = root / f"{name}-{left[0]}.jsonl"
        asked = answer.with_suffix(".json")
        asked.write_text(json.dumps({**request, "precisions": left, "answer": str(answer)}))
        ended = _child(asked, max(0.1, deadline - time.monotonic()), request["stage_s"])
        for line in answer.read_text().splitlines() if answer.exists() else ():
            yield Probe(**json.loads(line))
            left.pop(0)
        if left and time.monotonic() < deadline:
            yield Probe(name, left.pop(0), "fails", ended)
    yield from (Probe(name, word, "not tried", "the time was up") for word in left)


def _child(request: Path, seconds: float, stage_s: float) -> str:
    """Run the process to its end, at most so long; how it ended."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "autotune.engine.probing", str(request)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "the time was up"
    if done.returncode == -signal.SIGALRM:
        return f"one stage took longer than {stage_s:g} s"
    if done.returncode < 0:
        return f"the process was killed by {signal.Signals(-done.returncode).name}"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    words = f": {said[-1][:_LINES]}" if said else ""
    return f"the process ended with exit code {done.returncode}{words}"


def _defaults(name: str, precision: str) -> Configuration:
    """The backend at this precision, every other knob that exists then at its default."""
    own = plugins.load("backends", name).parameters()
    left = {f"{section}.{p.name}": p for section, of in SHARED.items() for p in of}
    left |= {f"{name}.{p.name}": p for p in own}
    found: dict[str, Scalar] = {"backend": name, "precision": precision, "batch": 1, "threads": 1}
    while left:
        word = next(w for w, p in left.items() if not p.when.knobs() & left.keys())
        parameter = left.pop(word)
        if parameter.when.holds(found):
            found[word] = _SAMPLES if word == "ptq.samples" else parameter.default
    return Configuration(tuple(sorted(found.items())))


# ---- the process ---------------------------------------------------------------------------------


def main(path: str) -> None:
    """Try what the request says, a line of the answer for each precision."""
    request = json.loads(Path(path).read_text())
    die_with(request["parent"])
    os.sched_setaffinity(0, request["cores"])
    with Path(request["answer"]).open("a") as answer:
        for word in request["precisions"]:
            found = _probed(word, request)
            answer.write(json.dumps(found) + "\n")
            answer.flush()


def _probed(word: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """One precision: the accuracy's stage and all before it, which verify what they make."""
    model = given.read(request["model"])
    source, data = given.source(model, request["code"]), given.data(request["data"])
    here = Target("local", 1, 1, None, hardware.machine())
    point = _defaults(request["backend"], word)
    effort = Effort(timeout_s=request["stage_s"])
    stages = plan(point, Subject(model, source, data, {}, 0), {"local": here}, effort)
    begun = time.perf_counter()
    last = _run(stages.accuracy, Path(request["store"]))
    told = {"backend": request["backend"], "precision": word}
    told["seconds"] = time.perf_counter() - begun
    if not last.ok:
        return {**told, "verdict": "fails", "reason": f"{last.stage}: {_line(last.error)}"}
    return {**told, "verdict": "runs", "kernels": last.facts["runtime"]["kernels"]}


def _run(stage: Stage, root: Path) -> execute.Result:
    inputs = [_run(before, root) for before in stage.inputs]
    return execute.run(stage, str(root), None, False, *inputs)


def _line(text: str) -> str:
    return " ".join(text.split())[:_LINES]


if __name__ == "__main__":
    main(sys.argv[1])
