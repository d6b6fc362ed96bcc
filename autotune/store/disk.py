"""What writing safely to a disk needs: flushing to it, and saying so when it is full."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autotune.errors import AutotuneError, MachineError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOTHING_LEFT = 64 * 1024


def flush(path: Path) -> None:
    """Wait until the file, or the folder's list of names, is on the disk.

    Raises:
        OSError: The disk refuses, for example because it is full.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def room(folder: Path, written: Path, option: str) -> Iterator[None]:
    """Turn an error that came of a full disk into one that says so.

    Args:
        folder: An existing folder on the disk that is written to.
        written: What is being written there: a file, or a folder of files.
        option: The command-line option that chooses another folder.

    Raises:
        MachineError: The disk was full inside the block.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error, folder):
            raise
        needed, free = _words(tree_bytes(written)), _words(shutil.disk_usage(folder).free)
        raise MachineError(
            f"the disk is full: more than {needed} were needed, {free} are free",
            place=str(folder),
            remedy=f"free some space ('autotune gc' shrinks a store), or choose a folder on"
            f" another disk with {option}",
        ) from error


def tree_bytes(path: Path) -> int:
    """The bytes of the file ``path`` or of all files under it; 0 where there are none."""
    files = [path] if path.is_file() else [Path(at) / f for at, _, fs in os.walk(path) for f in fs]
    total = 0
    for file in files:
        with suppress(FileNotFoundError):  # another process removes things at the same time
            total += file.lstat().st_size
    return total


def _is_full(error: Exception, folder: Path) -> bool:
    """Native libraries wrap a failed write: so any foreign error counts while nothing is left."""
    if isinstance(error, AutotuneError):
        return False
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return shutil.disk_usage(folder).free < _NOTHING_LEFT


def _words(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
