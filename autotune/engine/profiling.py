"""Where the time of a request goes: the runtime's profiler in a fresh process, on a lane."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autotune import plugins
from autotune.artifact import Stage
from autotune.engine import lane
from autotune.engine.plan import hardware
from autotune.errors import RunFolderError, UserError
from autotune.hardware import lane as free_lane
from autotune.profile import Profile
from autotune.space import Scalar
from autotune.store.artifacts import Store
from autotune.target import Target

CHILD = "autotune.engine.profiling_child"
FILE = "profile.json"
TIMEOUT_S = 300.0
Tell = Callable[[str], None]


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Work:
    """What to profile.

    Attributes:
        backend: Whose session opens the artifact, and whose profiler looks on.
        settings: The precision and the backend's own knobs.
        batch, threads: Of a request, and for it.
        artifact, data: The keys of what is opened, and of the samples that requests are made of.
    """

    backend: str
    settings: Mapping[str, Scalar]
    batch: int
    threads: int
    artifact: str
    data: str


def stage(work: Work, target: Target) -> Stage:
    """The stage that profiles: its key names the processor, as that of a measurement does."""
    libraries = plugins.load("backends", work.backend).libraries
    return Stage(
        name="profile",
        function=f"{CHILD}:main",
        kind="profile",
        parameters={
            **asdict(work),
            "machine": hardware(target),
            "lane_cores": target.lane_cores,
            "heap": "held",
        },
        libraries=tuple(plugins.version(library) for library in libraries),
        lane=target.name,
    )


def take(
    work: Work, target: Target, store: Store, timeout_s: float = TIMEOUT_S, tell: Tell = _silent
) -> Profile:
    """The profile of a stored artifact: found in the store, or taken and kept there.

    ``tell`` is told who a lane is waited for, and "" when that is over.

    Raises:
        UserError: The backend has no profiler.
        RunFolderError: The artifact or the data left the store.
        MachineError: The target asks for more cores than there are, or the disk is full.
        StageError: The profiling process crashed, ran out of time, or cannot do it.
    """
    key = stage(work, target).key
    with store.lock(key):
        found = store.open(key)
        if found is None:
            artifact, data = stored(store, work.artifact), stored(store, work.data)
            with store.writing(key) as out:
                began = time.perf_counter()
                profile = look(work, (artifact, data), target, out, timeout_s, tell)
                (out / FILE).write_text(json.dumps(profile.record()))
                seconds = time.perf_counter() - began
                found = store.commit(key, out, stage="profile", seconds=seconds, facts={})
    return Profile.from_record(json.loads((found / FILE).read_text()))


def look(
    work: Work,
    places: tuple[Path, Path],
    target: Target,
    folder: Path,
    timeout_s: float = TIMEOUT_S,
    tell: Tell = _silent,
) -> Profile:
    """Profile an artifact in a process of its own, on a lane of its own; ``folder`` is for it.

    ``places`` are the folders of the artifact and of the data; ``tell`` as for ``take``.

    Raises:
        UserError: The backend has no profiler.
        MachineError: The target asks for more cores than there are.
        StageError: The process crashed, ran out of time, or cannot do it.
    """
    if not hasattr(plugins.load("backends", work.backend), "profile"):
        raise UserError(f"backend '{work.backend}' has no profiler that autotune can read")
    with free_lane(target, tell) as cores:
        request: dict[str, Any] = {
            **asdict(work),
            "artifact": str(places[0]),
            "data": str(places[1]),
            "cores": cores,
            "ahead": not target.shared,
        }
        return Profile.from_record(lane.ask(CHILD, request, folder, timeout_s))


def stored(store: Store, key: str) -> Path:
    """The folder of an artifact.

    Raises:
        RunFolderError: It left the store.
    """
    found = store.open(key)
    if found is None:
        raise RunFolderError(
            f"the artifact {key[:8]} is no longer in the store",
            place=str(store.root),
            remedy="name a trial of the front (`autotune gc` keeps those), or the store of the run "
            "with --store",
        )
    return found
