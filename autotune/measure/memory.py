"""Memory of this process: its heap, resident now and at its peak (measurement.md, section 6)."""

from __future__ import annotations

import ctypes
import re
import resource
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_HELD = {-1: 1 << 28, -2: 1 << 26, -3: 1 << 25}
"""mallopt(3): M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD (the most there is), in bytes."""


def hold_heap() -> bool:
    """Let the C library keep what is freed, rather than give it back and fetch it page by page.

    Otherwise it hangs on how the heap of a process happens to lie whether a runtime that allocates
    for every request, as PyTorch does, waits for the kernel each time: the same network then takes
    half as long again in one process as in the next. Servers have allocators that keep it, too.

    Returns:
        Whether the C library can be told so (glibc can).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    told = [mallopt(what, size) for what, size in _HELD.items()]
    return told == [1] * len(_HELD)


def rss_bytes() -> int:
    """Resident memory now."""
    return int(psutil.Process().memory_info().rss)


def peak_rss_bytes() -> int:
    """The most that was resident since the process began, or since ``reset_peak``.

    From VmHWM (proc(5)); where the kernel does not tell it, getrusage(2), which is never reset.
    """
    status = _STATUS.read_text() if _STATUS.exists() else ""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    if found is not None:
        return int(found.group(1)) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> bool:
    """Let the peak begin at what is resident now (proc(5), clear_refs).

    Returns:
        Whether the kernel allows it; if not, the peak goes on from the start of the process.
    """
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True
