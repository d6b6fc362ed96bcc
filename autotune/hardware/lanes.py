"""How a process keeps to its part of the machine: pinning, and lanes that nobody shares."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autotune.errors import MachineError
from autotune.target import Target


def pin(cores: Sequence[int]) -> None:
    """Keep every thread of this process to ``cores``; later threads and children inherit it."""
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:
            continue


@contextmanager
def lane(target: Target, tell: Callable[[str], None] = lambda _: None) -> Iterator[tuple[int, ...]]:
    """One free lane of the target, for as long as the context lasts; waits for one.

    Lanes are locked machine-wide by their cores, so that two runs beside each other take turns.

    Args:
        target: Whose lane.
        tell: Is told who is waited for, and "" when that is over.

    Raises:
        MachineError: This machine has fewer cores than the lane asks for.
    """
    if target.lane_cores > len(target.machine.cores):
        raise MachineError(
            f"a lane of target '{target.name}' asks for {target.lane_cores} cores, "
            f"this machine offers {len(target.machine.cores)}",
            remedy=f"lower targets.{target.name}.lane_cores to {len(target.machine.cores)} or less",
        )
    lanes = [target.lane(i) for i in range(target.lanes)]
    whole = [cores for cores in lanes if len(cores) == target.lane_cores]
    free = ((cores, handles) for cores in whole if (handles := _lock(cores, wait=False)))
    cores, held = next(free, (whole[0], None))
    handles = held or _waited(whole[0], tell)
    try:
        yield cores
    finally:
        _close(handles)


@contextmanager
def held(hints: Mapping[str, Any]) -> Iterator[None]:
    """The lane of the target in a stage's hints, as long as the context lasts; none: none is held.

    For stages that compute on a GPU without measuring on it. All GPU lanes of a machine begin at
    its last core, so that no two overlap in time.
    """
    if "target" not in hints:
        yield
        return
    with lane(Target.from_record(hints["target"])):
        yield


def _waited(cores: Sequence[int], tell: Callable[[str], None]) -> list[int]:
    """The cores' locks, once those who hold them are done."""
    tell(f"waiting for the lane: another run measures{_holder(cores)}; the time budget runs on")
    handles = _lock(cores, wait=True)
    tell("")
    return handles


def _holder(cores: Sequence[int]) -> str:
    """The process that holds the first of the cores that is taken, in words."""
    for core in sorted(cores):
        handle = os.open(_folder() / f"{core}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(handle, 20).decode()
            return f" (process {pid})" if pid else ""
        finally:
            os.close(handle)
    return ""


def _lock(cores: Sequence[int], *, wait: bool) -> list[int]:
    """Files locked for this caller, one a core: lanes of different widths exclude each other too.

    In ascending order, so that no two wait for each other. Empty where one is taken and ``wait``
    is off.

    Raises:
        MachineError: The folder of the locks cannot be made.
    """
    folder = _folder()
    handles: list[int] = []
    try:
        for core in sorted(cores):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            handles.append(os.open(folder / f"{core}.lock", flags, 0o600))
            fcntl.flock(handles[-1], fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            os.ftruncate(handles[-1], 0)
            os.pwrite(handles[-1], str(os.getpid()).encode(), 0)
    except BlockingIOError:
        _close(handles)
        return []
    except BaseException:
        _close(handles)
        raise
    return handles


def _folder() -> Path:
    """Where the locks are.

    Raises:
        MachineError: It cannot be made.
    """
    folder = Path(tempfile.gettempdir()) / f"autotune-lanes-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"the lanes' locks need this folder: {error.strerror}",
            place=str(folder),
            remedy="remove what stands there",
        ) from error
    return folder


def _close(handles: Sequence[int]) -> None:
    for handle in handles:
        os.close(handle)
