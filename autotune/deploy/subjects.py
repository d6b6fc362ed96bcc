"""What can be measured by itself: an ONNX file, a trial of a run, the files of a pick."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune import hardware, plugins, runfolder
from autotune.deploy.ship import CONFIGURATION
from autotune.engine import onnxfile
from autotune.engine.plan import runtime
from autotune.engine.profiling import stored
from autotune.errors import MachineError, RunFolderError, TaskError, UserError
from autotune.hardware import gpus
from autotune.space import Configuration, Scalar
from autotune.store.artifacts import Store
from autotune.target import Gpu, Target
from autotune.task import ModelSource
from autotune.training.network import write_source

ONNX_BACKEND = "onnxruntime"


@dataclass(frozen=True)
class Subject:
    """A model that a backend can open.

    Attributes:
        name: What it is called in the answer.
        artifact: The folder that the backend opens.
        data: The folder of the samples that it was measured on; None where there are none.
        configuration: The backend, and all that it was measured with.
        model: Where it comes from, as a backend may ask.
        lane_cores: The cores of its lane; 0: as many as threads.
        gpu: The GPU of this machine that it runs on; None: it runs on the cores.
    """

    name: str
    artifact: Path
    data: Path | None
    configuration: Mapping[str, Scalar]
    model: ModelSource
    lane_cores: int = 0
    gpu: Gpu | None = None

    @property
    def backend(self) -> str:
        return str(self.configuration["backend"])

    def settings(self, target: Target) -> dict[str, Scalar]:
        """What a session on ``target`` reads."""
        return runtime(Configuration(tuple(sorted(self.configuration.items()))), target)


def find(
    what: str, number: int | None, store: Path | None, backend: str | None, threads: int, out: Path
) -> Subject:
    """The subject that a word of the command line names.

    Args:
        what: An ONNX file; a run folder, or ``folder:12`` for a trial of it; a folder like
            ``best/``.
        number: The trial, where ``what`` does not say it; None: the run's pick.
        store: Where the run's artifacts are; by default in its folder.
        backend: What runs an ONNX file; by default ONNX Runtime.
        threads: What its options are told.
        out: An empty folder for what has to be copied.

    Raises:
        UserError: It is none of these, or cannot be measured any more.
    """
    path = Path(what)
    if not path.exists() and ":" in what:
        folder, _, text = what.rpartition(":")
        if text.isdecimal() and number is None:
            path, number = Path(folder), int(text)
    if (path / runfolder.SPEC).is_file():
        found = _trial(path, number, store)
    elif (path / CONFIGURATION).is_file():
        found = _bundle(path)
    elif number is not None or store is not None:
        raise UserError(
            "it is no run folder, which --trial and --store are for",
            place=what,
            remedy="leave them out, or name a folder that `autotune run` wrote",
        )
    elif path.is_file():
        return _onnx(path, backend or ONNX_BACKEND, threads, out)
    else:
        raise UserError(
            "no model lies here" if path.exists() else "there is no such file or folder",
            place=what,
            remedy="name an ONNX file, a run folder (RUN or RUN:12), or a folder like RUN/best",
        )
    if backend not in (None, found.backend):
        raise UserError(
            f"it was made for {found.backend}, and no other backend opens it",
            place="--backend",
            remedy="leave it out, or name an ONNX file",
        )
    return found


def _onnx(path: Path, backend: str, threads: int, out: Path) -> Subject:
    """An ONNX file as it is, with the backend's options as they are by default."""
    onnxfile.inputs(path)  # whether it is one
    onnxfile.copy(path, out)
    model = ModelSource(onnx=str(path))
    write_source(model, out)
    known: dict[str, Scalar] = {"backend": backend, "precision": "fp32", "threads": threads}
    for parameter in plugins.load("backends", backend).parameters():
        if parameter.when.holds(known):
            known[f"{backend}.{parameter.name}"] = parameter.default
    return Subject(str(path), out, None, known, model)


def _trial(folder: Path, number: int | None, store: Path | None) -> Subject:
    data = runfolder.read(folder)
    picked = (data.pick or {}).get("trial")
    wanted = picked if number is None else number
    if wanted is None:
        raise RunFolderError(
            "this run picked no trial", place=str(folder), remedy=f"name one: {folder}:0"
        )
    trial = next((t for t in data.trials if t.number == wanted), None)
    if trial is None or trial.measurement is None:
        why = f"it {trial.outcome.word}: {trial.outcome.reason}" if trial and trial.outcome else ""
        cause = f"trial {wanted} was not measured; {why}" if why else f"there is no trial {wanted}"
        remedy = "`trials.csv` in the run folder lists the trials"
        raise RunFolderError(cause, place=str(folder), remedy=remedy)
    opened = [event for event in data.events if event["event"] == "open"][-1]
    root = Store(store or folder / "store")
    artifact = stored(root, str(trial.measurement.facts["artifact"]))
    samples = stored(root, str(opened["artifacts"][1]))
    targets, name = opened["environment"]["targets"], f"{folder}:{wanted}"
    target = targets[str(trial.configuration.get("target", next(iter(targets))))]
    gpu = _gpu(trial.configuration, name, target.get("gpu"))
    cores, model = int(target["lane_cores"]), _model(artifact)
    return Subject(name, artifact, samples, trial.configuration, model, cores, gpu)


def _gpu(
    configuration: Mapping[str, Scalar], place: str, told: Mapping[str, Any] | None = None
) -> Gpu | None:
    """The GPU here for what was made for one; None for what runs on the cores.

    The one that was ``told`` of, where it is here; else the first. What was made for one product
    alone is refused by its backend when it is opened.

    Raises:
        MachineError: There is no GPU here.
    """
    if configuration.get("device") != "cuda":
        return None
    found = hardware.accelerators()
    if not found.gpus:
        cause = f"it was made for a GPU ({told['name']})" if told else "it was made for a GPU"
        raise MachineError(f"{cause}: {found.missing}", place=place, remedy=found.remedy)
    return (gpus.alike(found.gpus, told) if told else None) or found.gpus[0]


def _bundle(folder: Path) -> Subject:
    """The files of a pick, as ``best/`` holds them."""
    path = folder / CONFIGURATION
    try:
        configuration = json.loads(path.read_text(encoding="utf-8"))["configuration"]
        backend, _ = configuration["backend"], configuration["precision"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaskError(
            "it does not tell a configuration",
            place=str(path),
            remedy="name a folder that autotune wrote, for example RUN/best",
        ) from error
    plugins.load("backends", str(backend))
    gpu = _gpu(configuration, str(folder))
    return Subject(str(folder), folder, None, configuration, _model(folder), gpu=gpu)


def _model(folder: Path) -> ModelSource:
    from autotune.training.network import SOURCE, read_source

    try:
        return read_source(folder)
    except (OSError, ValueError, TypeError) as error:
        raise TaskError(
            "it does not tell where its model comes from",
            place=str(folder / SOURCE),
            remedy="name a folder that autotune wrote, for example RUN/best",
        ) from error
