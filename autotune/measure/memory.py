"""Resident memory of this process, now and at its peak (measurement.md, section 6)."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


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
