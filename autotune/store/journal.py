"""The journal: a run's only truth, one checked JSON object a line, appended by one writer.

A line is ``{"crc":"<8 hex digits>","event":<object>}``; the checksum is the CRC-32 of the object's
bytes. A process that dies while it appends leaves at most one torn line, the last; it was never
promised to anyone, so it is dropped.
"""

from __future__ import annotations

import json
import os
import re
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from autotune.errors import RunFolderError
from autotune.store import disk, locks

_HEAD = '{"crc":"%08x","event":'
_HEAD_BYTES = len(_HEAD % 0)


def read(path: Path) -> list[dict[str, Any]]:
    """The events of a journal, in their order, while it is written or after.

    Raises:
        RunFolderError: There is no journal, or a line before the last is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RunFolderError("there is no journal here", place=str(path)) from None
    return _parse(data, path)[0]


class Journal:
    """A journal open for appending, as a context manager.

    Raises:
        RunFolderError: On entering: another process writes to it, or a line is damaged.
        MachineError: On entering or appending: the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path.with_name(f"{path.name}.lock")
        self._held = -1
        self._file = -1
        self._end = 0

    def __enter__(self) -> Journal:
        with disk.room(self.path.parent, self.path, "--out"):
            self._held = _lock(self._lock, self.path)
            try:
                _write(self._held, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)
                self._open()
            except BaseException:
                self._close()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event; it is on the disk when this returns, and not in the file if it raises.

        Args:
            event: JSON values; every number finite.

        Raises:
            ValueError: A number is not finite, or the journal is not open.
            TypeError: A value is not JSON.
            MachineError: The disk is full.
        """
        if self._file < 0:
            raise ValueError("the journal is not open")
        line = _line(event)
        with disk.room(self.path.parent, self.path, "--out"):
            try:
                _write(self._file, line, self._end)
                os.fsync(self._file)
            except BaseException:
                os.ftruncate(self._file, self._end)
                raise
        self._end += len(line)

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self._end = _parse(self.path.read_bytes(), self.path)[1]
        os.ftruncate(self._file, self._end)
        os.fsync(self._file)
        disk.flush(self.path.parent)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        locks.release(self._lock, self._held)
        self._file = self._held = -1


def _lock(path: Path, journal: Path) -> int:
    """The writer's lock; its file is empty, for the holder's name."""
    descriptor = locks.acquire(path, wait=False)
    if descriptor is None:
        try:
            holder = path.read_text(encoding="utf-8") or "unknown"
        except FileNotFoundError:
            holder = "just ended"
        raise RunFolderError(
            f"another autotune writes to this run (process {holder})",
            place=str(journal),
            remedy="wait for it, stop it, or give this run a folder of its own with --out",
        )
    os.ftruncate(descriptor, 0)
    return descriptor


def _line(event: Mapping[str, Any]) -> bytes:
    body = json.dumps(event, allow_nan=False, separators=(",", ":")).encode()
    return (_HEAD % zlib.crc32(body)).encode() + body + b"}\n"


def _write(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _parse(data: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """The events of whole lines, and the number of bytes that those lines take."""
    events: list[dict[str, Any]] = []
    end = 0
    lines = [line for line in re.split(rb"(?<=\n)", data) if line]
    for number, line in enumerate(lines, start=1):
        event = _event(line)
        if event is None and number < len(lines):
            raise RunFolderError(
                "the journal is damaged: this line is not what was written",
                place=f"{path}:{number}",
                remedy="restore the file from a copy; or cut it before this line, and the run"
                " goes on from there",
            )
        if event is not None:
            events.append(event)
            end += len(line)
    return events, end


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of one line; None where the line is torn or damaged."""
    body = line[_HEAD_BYTES:-2]
    if line != (_HEAD % zlib.crc32(body)).encode() + body + b"}\n":
        return None
    event: dict[str, Any] = json.loads(body)
    return event
