"""One stage on a worker: found in the store, or run under a deadline and committed to it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from autotune.artifact import Stage
from autotune.contracts import StageContext, StageFunction
from autotune.errors import AutotuneError, MachineError, StageError
from autotune.hardware import pin
from autotune.store.artifacts import Store

LOG_TAIL = 8000
UNFINISHED = "unfinished"
"""The fact of a stage that gave up, because its result no longer matters: it is not kept."""


@dataclass(frozen=True)
class Result:
    """How a stage ended; what its dependents and the driver get.

    Attributes:
        key, stage: Whose result it is; of a failure, the stage that failed first.
        executed: Whether it ran now, instead of being found.
        seconds: How long the stage took when it ran, now or then.
        began: When it began (``time.time``), where it ran now.
        facts: What the stage said of itself.
        error, traceback: Why it failed; "" where it did not.
        fatal: The failure is the machine's (a full disk): nothing further can succeed.
        log: The end of what the libraries printed meanwhile.
        payload: The packed artifact, where nodes do not share a disk.
    """

    key: str
    stage: str
    executed: bool = False
    seconds: float = 0.0
    began: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    traceback: str = ""
    fatal: bool = False
    log: str = ""
    payload: bytes | None = None

    @property
    def ok(self) -> bool:
        return not self.error

    @property
    def unfinished(self) -> bool:
        """Whether the stage gave up; what it found out by then is in its facts alone."""
        return bool(self.facts.get(UNFINISHED))


def run(
    stage: Stage, root: str, cores: Sequence[int] | None, carry: bool, *inputs: Result
) -> Result:
    """Run ``stage`` unless the store has it; never raises for what the stage itself does wrong.

    Args:
        stage: What to run.
        root: The store's folder on this node.
        cores: The cores that preparing stages keep to; None leaves them as they are.
        carry: Whether to return the artifact's bytes, for nodes that do not share the store.
        inputs: The results of ``stage.inputs``, in their order.
    """
    broken = next((r for r in inputs if not r.ok), None)
    if broken is not None:
        return broken
    if cores and not stage.lane:
        pin(cores)
    store = Store(Path(root))
    try:
        for result in inputs:
            if result.payload is not None and not store.has(result.key):
                store.unpack(result.key, result.payload)
        with store.lock(stage.key):
            found = store.open(stage.key)
            return _hit(stage, store, carry) if found else _compute(stage, store, carry)
    except MachineError as error:
        return Result(stage.key, stage.name, executed=True, error=str(error), fatal=True)


def hit(stage: Stage, store: Store, carry: bool) -> Result | None:
    """The result of a stage that the store already holds intact; None where it does not."""
    return _hit(stage, store, carry) if store.open(stage.key) else None


def scratch(stage: Stage, root: Path) -> Path:
    """The folder of the stage's own that survives a kill; it is gone once the stage has ended."""
    return root / "scratch" / stage.key


def overdue(stage: Stage, root: Path) -> bool:
    """Whether a stage whose worker died had run out of its time; its temporary files go."""
    shutil.rmtree(_folder(stage, root), ignore_errors=True)
    marker = _marker(stage, root)  # of when it began
    if not marker.exists():
        return False
    age = time.time() - marker.stat().st_mtime
    marker.unlink(missing_ok=True)
    return age >= stage.timeout_s


def _hit(stage: Stage, store: Store, carry: bool) -> Result:
    meta = store.meta(stage.key)
    payload = store.pack(stage.key) if carry else None
    return Result(
        stage.key, stage.name, seconds=meta["seconds"], facts=meta["facts"], payload=payload
    )


def _compute(stage: Stage, store: Store, carry: bool) -> Result:
    folder = scratch(stage, store.root)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.time()
    with _captured() as log:
        try:
            seconds, facts = _commit(stage, store, folder)
        except MachineError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stage's failure becomes a value
            return _failed(stage, error, log())
    shutil.rmtree(folder, ignore_errors=True)
    kept = carry and not facts.get(UNFINISHED)
    payload = store.pack(stage.key) if kept else None
    return Result(stage.key, stage.name, True, seconds, began, facts, log=log(), payload=payload)


def _commit(stage: Stage, store: Store, own: Path) -> tuple[float, Mapping[str, Any]]:
    """Run the stage's function and keep what it made; its seconds and facts.

    Raises:
        MachineError: The disk is full, also where a library tells it in other words.
        StageError: An input's artifact is not there.
    """
    start = time.perf_counter()
    with store.writing(stage.key) as out:
        folders = [store.open(s.key) for s in stage.inputs]
        if any(folder is None for folder in folders):
            raise StageError("an input left the store; run again")
        context = StageContext(stage, tuple(cast("list[Path]", folders)), out, own)
        with _temporary(stage, store.root), _deadline(stage, store.root):
            facts = _function(stage.function)(context)
        seconds = time.perf_counter() - start
        if not facts.get(UNFINISHED):
            store.commit(stage.key, out, stage=stage.name, seconds=seconds, facts=facts)
    return seconds, facts


def _failed(stage: Stage, error: BaseException, log: str) -> Result:
    expected = isinstance(error, AutotuneError)
    words = str(error) if expected else f"{type(error).__name__}: {error}"
    trace = "" if expected else traceback.format_exc()
    return Result(stage.key, stage.name, executed=True, error=words, traceback=trace, log=log)


def _function(name: str) -> StageFunction:
    module, _, attribute = name.partition(":")
    return cast("StageFunction", getattr(import_module(module), attribute))


@contextmanager
def _deadline(stage: Stage, root: Path) -> Iterator[None]:
    """Let the kernel end this process when the stage's time is up, whatever code it is in then.

    A lane's stage watches over its child instead, and needs a little longer than it.
    """
    marker = _marker(stage, root)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(str(os.getpid()))
    grace = 60.0 if stage.lane else 0.0
    before: Any = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, stage.timeout_s + grace)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        marker.unlink(missing_ok=True)


@contextmanager
def _temporary(stage: Stage, root: Path) -> Iterator[None]:
    """Temporary files in a folder of the stage's own, which its next run empties if this is killed.

    It is not in the store, as the paths of sockets must be short. What is shared by name stays in
    the machine's folder: the locks of lanes, which only their own stages take, and what torch's
    compiler keeps for other processes.
    """
    shared = Path(tempfile.gettempdir())
    os.environ.setdefault(_COMPILED, str(shared / f"autotune-compiled-{os.getuid()}"))
    if stage.lane:
        yield
        return
    folder = _folder(stage, root)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    before, known = os.environ.get("TMPDIR"), tempfile.tempdir
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = known
        os.environ.pop("TMPDIR")
        os.environ.update({} if before is None else {"TMPDIR": before})
        shutil.rmtree(folder, ignore_errors=True)


_COMPILED = "TORCHINDUCTOR_CACHE_DIR"


def _folder(stage: Stage, root: Path) -> Path:
    """Where a stage's temporary files lie while it runs."""
    name = hashlib.sha256(f"{root.resolve()} {stage.key}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"autotune-{name}"


def _marker(stage: Stage, root: Path) -> Path:
    return root / "running" / stage.key


@contextmanager
def _captured() -> Iterator[Callable[[], str]]:
    """Everything that is printed meanwhile, by Python or by a library, kept out of sight."""
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = [os.dup(1), os.dup(2)]
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        tail = ""

        def read() -> str:
            nonlocal tail
            if not file.closed:
                sys.stdout.flush()
                sys.stderr.flush()
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - LOG_TAIL))
                tail = file.read().decode(errors="replace")
            return tail

        try:
            yield read
        finally:
            read()
            for descriptor, copy in enumerate(saved, start=1):
                os.dup2(copy, descriptor)
                os.close(copy)
