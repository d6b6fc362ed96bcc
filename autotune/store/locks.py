"""Locks between processes: files that the kernel frees when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def acquire(path: Path, *, wait: bool) -> int | None:
    """Lock ``path`` for this caller alone, threads of the same process included.

    Args:
        path: The lock file; it is made, and its folder must exist.
        wait: Whether to wait for the holder, or to give up at once.

    Returns:
        The descriptor for ``release``; None where another holds the lock and ``wait`` is off.

    Raises:
        OSError: The file cannot be made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its last holder removed it while we waited: lock the new one


def release(path: Path, descriptor: int) -> None:
    """Free a lock and remove its file."""
    path.unlink(missing_ok=True)
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # also where a forked child still has the descriptor
    os.close(descriptor)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock ``path`` for the length of a block, waiting for it first."""
    descriptor = acquire(path, wait=True)
    assert descriptor is not None
    try:
        yield
    finally:
        release(path, descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
