"""What this machine is, and how a process keeps to its part of it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from autotune.errors import MachineError
from autotune.target import Machine, Target

_FLAGS = ("avx", "avx2", "avx512", "avx_vnni", "amx", "fma", "f16c", "asimd", "bf16", "i8mm", "sve")


@cache
def machine() -> Machine:
    """The machine as found: cores are those this process was allowed when first asked."""
    import psutil

    name, flags = _cpu()
    return Machine(
        cpu=name,
        flags=tuple(sorted(f for f in flags if f.startswith(_FLAGS))),
        cores=tuple(sorted(os.sched_getaffinity(0))),
        memory_bytes=int(psutil.virtual_memory().total),
    )


def whole_machine() -> Machine:
    """As ``machine``, with every core that the first process has: a node may be pinned to fewer."""
    try:
        cores = os.sched_getaffinity(1)
    except OSError:
        cores = os.sched_getaffinity(0)
    return replace(machine(), cores=tuple(sorted(cores)))


def bf16_kernels(machine: Machine) -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AVX512-BF16, AMX; Arm: BF16)."""
    return any(machine.has(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def pin(cores: Sequence[int]) -> None:
    """Keep every thread of this process to ``cores``; later threads and children inherit it."""
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:
            continue


@contextmanager
def lane(target: Target) -> Iterator[tuple[int, ...]]:
    """One free lane of the target, for as long as the context lasts; waits for one.

    Lanes are locked machine-wide by their cores, so that two runs beside each other take turns.

    Raises:
        MachineError: This machine has fewer cores than the lane asks for.
    """
    if target.lane_cores > len(target.machine.cores):
        raise MachineError(
            f"a lane of target '{target.name}' asks for {target.lane_cores} cores, "
            f"this machine offers {len(target.machine.cores)}",
            remedy="lower lane_cores",
        )
    lanes = [target.lane(i) for i in range(target.lanes)]
    whole = [cores for cores in lanes if len(cores) == target.lane_cores]
    free = ((cores, handles) for cores in whole if (handles := _lock(cores, wait=False)))
    cores, held = next(free, (whole[0], None))
    handles = held or _lock(whole[0], wait=True)
    try:
        yield cores
    finally:
        _close(handles)


def _lock(cores: Sequence[int], *, wait: bool) -> list[int]:
    """Files locked for this caller, one a core: lanes of different widths exclude each other too.

    In ascending order, so that no two wait for each other. Empty where one is taken and ``wait``
    is off.

    Raises:
        MachineError: The folder of the locks cannot be made.
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
    handles: list[int] = []
    try:
        for core in sorted(cores):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            handles.append(os.open(folder / f"{core}.lock", flags, 0o600))
            fcntl.flock(handles[-1], fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        _close(handles)
        return []
    except BaseException:
        _close(handles)
        raise
    return handles


def _close(handles: Sequence[int]) -> None:
    for handle in handles:
        os.close(handle)


def _cpu() -> tuple[str, frozenset[str]]:
    """The processor's name and flags, from the kernel where it tells them (py-cpuinfo is slow)."""
    fields: dict[str, str] = {}
    source = Path("/proc/cpuinfo")
    for line in source.read_text().splitlines() if source.exists() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", ""))
    if "model name" in fields and flags:
        return fields["model name"], frozenset(flags.split())
    import cpuinfo

    info = cpuinfo.get_cpu_info()
    return str(info.get("brand_raw", "unknown")), frozenset(info.get("flags", ()))
