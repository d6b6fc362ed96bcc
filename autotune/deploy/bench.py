"""One model measured as a run measures its trials: in a process of its own, on a lane."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from autotune import hardware, plugins
from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import arrays
from autotune.deploy import inputs, subjects
from autotune.deploy.subjects import Subject
from autotune.engine import lane
from autotune.errors import MachineError, StageError, UserError
from autotune.measure.loop import LoopSettings
from autotune.scenario import MAX_BATCH, MAX_QUEUE_DELAY, SINGLE_STREAM, Scenario
from autotune.space import Scalar
from autotune.target import Target
from autotune.trial import Estimate

USUAL_MAX_BATCH = 8
_ALWAYS_MS = 1e9
"""Every model is measured on until its p99 can be told, as far as the time goes."""
_GRACE_S = 120.0


@dataclass(frozen=True)
class Asked:
    """How to measure; what is None is as the model was measured before, or 1.

    Attributes:
        scenario: How requests come, and the limit on the p99 where a server is to hold one.
        backend: What runs an ONNX file.
        batch: Samples in a request; a server's requests are of one.
        threads: Of the runtime.
        max_batch, max_queue_delay_ms: The server's dynamic batcher.
        seconds: The time for it, beside loading the model and warming it up.
        data: The user's samples.
        sizes: Of axes that the model leaves open, by name, where samples are drawn.
        trial, store: Of a run folder: which trial, and where its artifacts are.
    """

    scenario: Scenario = SINGLE_STREAM
    backend: str | None = None
    batch: int | None = None
    threads: int | None = None
    max_batch: int | None = None
    max_queue_delay_ms: float | None = None
    seconds: float = 10.0
    data: Path | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    trial: int | None = None
    store: Path | None = None


@dataclass(frozen=True)
class Answer:
    """What was measured, and how.

    Attributes:
        model: What was measured.
        backend, settings, threads: How it ran; ``by_default`` where the settings are the backend's
            own, as for an ONNX file.
        scenario: How requests came; with ``batch`` where each was of that many samples.
        data: Where the samples came from, in words.
        cpu, gpu, cores: Where; no GPU where it ran on the cores alone.
        columns: As the columns of a trial.
        facts: How it went.
        warnings: What a reader of the figures must know, one sentence each.
    """

    model: str
    backend: str
    settings: Mapping[str, Scalar]
    by_default: bool
    threads: int
    scenario: Mapping[str, Any]
    data: str
    cpu: str
    gpu: str | None
    cores: tuple[int, ...]
    columns: Mapping[str, Estimate]
    facts: Mapping[str, Any]
    warnings: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the server holds its limit at any rate; true where there is no server."""
        return self.facts["server"]["rate_per_s"] is not None if "server" in self.facts else True


def bench(what: str, asked: Asked, tell: Callable[[str], None] = lambda _: None) -> Answer:
    """Measure the model that ``what`` names.

    Args:
        what: See ``subjects.find``.
        asked: How.
        tell: Is told who is waited for where the lane is taken, and "" when that is over.

    Raises:
        UserError: What is asked cannot be measured, and why.
    """
    if not 0 < asked.seconds < math.inf:
        raise UserError(f"{asked.seconds} is no time", place="--seconds", remedy="for example 10")
    with tempfile.TemporaryDirectory(prefix="autotune-bench-") as name:
        folder = Path(name)
        for part in ("model", "data", "out"):
            (folder / part).mkdir()
        threads = asked.threads or 1
        subject = subjects.find(
            what, asked.trial, asked.store, asked.backend, threads, folder / "model"
        )
        return _measured(subject, asked, folder, tell)


def _measured(subject: Subject, asked: Asked, folder: Path, tell: Callable[[str], None]) -> Answer:
    threads = asked.threads or int(subject.configuration.get("threads", 1))
    target = target_of(subject, threads)
    check_possible(subject, target, threads)
    batch, load = load_of(subject, asked)
    data, words = samples_of(subject, asked, int(load.get("max_batch", batch)), folder / "data")
    stage = Stage(
        name="latency",
        function="autotune.engine.lane:latency",
        kind="latency",
        parameters={
            "backend": subject.backend,
            "settings": subject.settings(target),
            "batch": batch,
            "threads": threads,
            "effort": _effort(asked.seconds),
            "scenario": load,
        },
        timeout_s=10 * asked.seconds + _GRACE_S,
    )
    context = StageContext(stage, (subject.artifact, data), folder / "out", folder)
    try:
        with hardware.lane(target, tell) as cores:
            answer = dict(lane.measure(context, cores, target))
    except StageError as error:
        raise UserError(str(error), place=subject.name) from error
    columns = answer.pop("columns")
    return Answer(
        model=subject.name,
        backend=subject.backend,
        settings=subject.settings(target),
        by_default=subject.model.onnx == subject.name,
        threads=threads,
        scenario=load if "max_batch" in load else {**load, "batch": batch},
        data=words,
        cpu=target.machine.cpu,
        gpu=target.gpu.name if target.gpu else None,
        cores=cores,
        columns={c: Estimate(e["value"], e.get("low"), e.get("high")) for c, e in columns.items()},
        warnings=tuple(answer.pop("warnings")),
        facts=answer,
    )


def target_of(subject: Subject, threads: int) -> Target:
    """A lane of this machine as wide as the subject's was, and not narrower than its threads.

    With the subject's GPU, where it runs on one.
    """
    machine = hardware.machine()
    if threads > len(machine.cores):
        raise MachineError(
            f"{threads} threads, and this machine offers {len(machine.cores)} cores",
            place="--threads",
            remedy=f"give {len(machine.cores)} or fewer",
        )
    cores = min(max(threads, subject.lane_cores), len(machine.cores))
    return Target("bench", cores, 1, None, machine, subject.gpu)


def check_possible(subject: Subject, target: Target, threads: int) -> None:
    """Refuse what the backend cannot run here.

    Raises:
        UserError: It is not installed, or says why it cannot.
    """
    backend = plugins.load("backends", subject.backend)
    missing = backend.unavailable()
    if missing:
        raise UserError(missing, place=subject.name)
    settings = {**subject.configuration, "threads": threads}
    rejected = backend.reject(settings, target, subject.model)
    if rejected is not None:
        raise UserError(rejected.reason, place=subject.name)


def load_of(subject: Subject, asked: Asked) -> tuple[int, dict[str, Any]]:
    """The batch of a request, and the scenario as the measuring process is told it.

    Raises:
        UserError: An option that says nothing under the scenario, or no limit for a server.
    """
    fixed = inputs.fixed_batch(inputs.declared(subject.artifact))
    batcher = {"--max-batch": asked.max_batch, "--max-queue-delay": asked.max_queue_delay_ms}
    if asked.scenario.kind != "server":
        limit = {"--slo": asked.scenario.p99_ms}
        _refuse({**batcher, **limit}, "is for --scenario server")
        batch = asked.batch or fixed or int(subject.configuration.get("batch", 1))
        _made_for(batch, fixed, "--batch", subject)
        return batch, asked.scenario.request({})
    _refuse({"--batch": asked.batch}, "says nothing of a server, whose requests are single samples")
    if asked.scenario.p99_ms is None:
        raise UserError(
            "a server's rate is the highest that holds a limit, and there is none",
            place="--scenario server",
            remedy="give one: --slo p99=5ms",
        )
    usual = fixed or subject.configuration.get(MAX_BATCH, USUAL_MAX_BATCH)
    most = int(asked.max_batch or usual)
    _made_for(most, fixed, "--max-batch", subject)
    if fixed not in (None, 1):
        raise UserError(
            f"the model's batch is fixed at {fixed}: it cannot answer single requests",
            place=subject.name,
            remedy="export it with an open first axis",
        )
    delay = asked.max_queue_delay_ms
    given = subject.configuration.get(MAX_QUEUE_DELAY, 0.0) if delay is None else delay
    return 1, asked.scenario.request({MAX_BATCH: most, MAX_QUEUE_DELAY: float(given)})


def _refuse(options: Mapping[str, object], why: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise UserError(f"this option {why}", place=option, remedy="leave it out")


def _made_for(batch: int, fixed: int | None, option: str, subject: Subject) -> None:
    if fixed is not None and batch != fixed:
        raise UserError(
            f"{option} {batch}, but the model's batch is fixed at {fixed}",
            place=subject.name,
            remedy=f"give {option} {fixed}, or export it with an open first axis",
        )


def samples_of(subject: Subject, asked: Asked, batch: int, folder: Path) -> tuple[Path, str]:
    """The folder of the samples, and in words where they come from."""
    if asked.data is None and subject.data is not None:
        return subject.data, "the test data of its run"
    known = inputs.declared(subject.artifact)
    if asked.data is not None:
        found, words = inputs.read(asked.data, known), str(asked.data)
    else:
        found = inputs.draw(known, batch, asked.sizes, subject.name)
        told = "; ".join(str(replace(one, shape=found[one.name].shape)) for one in known)
        words = f"random values ({told}; seed {inputs.SEED}), not real data"
    arrays.write(folder, {"test": (found, None)})
    return folder, words


def _effort(seconds: float) -> dict[str, Any]:
    """As long as it takes to tell the p99, within so many seconds."""
    return asdict(
        LoopSettings(
            min_s=min(1.0, seconds), max_s=seconds, tail_below_ms=_ALWAYS_MS, tail_max_s=seconds
        )
    )
