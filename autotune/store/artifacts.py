"""The content-addressed store: one folder an artifact, complete and intact or not there at all.

An artifact of key ``k`` is the folder ``root/k[:2]/k`` with its stage's files and ``meta.json``
(stage, seconds, facts, the files' SHA-256 digests and size, and a checksum of all that). It is
made in ``root/tmp``, flushed to the disk, and renamed into place.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autotune.store import content, disk, locks

_KEY = re.compile(r"[0-9A-Za-z_-]{3,128}")


@dataclass(frozen=True)
class Store:
    """Artifacts under ``root``. Any number of processes may use it at once."""

    root: Path

    def has(self, key: str) -> bool:
        """Whether the artifact was committed. Its files are not checked; ``open`` does that."""
        return (self._folder(key) / content.META).exists()

    def open(self, key: str) -> Path | None:
        """The artifact's folder, to be read and never written to; None where there is none.

        Its digests are checked the first time a process asks for it. An artifact that fails is
        removed, so that it is made again.
        """
        folder = self._folder(key)
        while folder.is_dir():
            stamp = _stamp(folder)
            if _intact(folder, stamp):
                with suppress(OSError):  # the last use, for ``collect``; a read-only disk has none
                    os.utime(folder)
                return folder
            if _stamp(folder) == stamp:  # else another process put a new one there meanwhile
                self._remove(folder)
        return None

    def meta(self, key: str) -> Mapping[str, Any]:
        """What was committed with the artifact: stage, seconds, facts, digests, bytes.

        Raises:
            KeyError: There is no such artifact, or what is there is damaged.
        """
        found = content.read_meta(self._folder(key))
        if found is None:
            raise KeyError(key)
        return found

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """An empty folder to make the artifact in; what is not committed is thrown away.

        Raises:
            MachineError: The disk was full inside the block.
        """
        self._folder(key)
        self.root.mkdir(parents=True, exist_ok=True)
        self.sweep()
        with self._scratch(key) as folder, disk.room(self.root, folder, "--store"):
            folder.mkdir()
            yield folder

    def commit(
        self, key: str, folder: Path, *, stage: str, seconds: float, facts: Mapping[str, Any]
    ) -> Path:
        """Make ``folder`` (from ``writing``) the artifact; if another came first, keep that one.

        Args:
            key: The artifact's address.
            folder: All its files; moved away.
            stage: The name of the stage that made it.
            seconds: How long that took.
            facts: JSON values about it.

        Returns:
            The artifact's folder.

        Raises:
            ValueError: A fact is not finite, or a file is called ``meta.json``.
            MachineError: The disk is full.
        """
        target = self._folder(key)
        with disk.room(self.root, folder, "--store"):
            content.write_meta(folder, stage, seconds, facts)
            return _land(folder, target, lambda: self.open(key))

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Be the only one, over all processes, that makes ``key``; ask ``has`` again inside."""
        self._folder(key)
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with locks.held(folder / key):
            yield

    def keys(self) -> Iterator[str]:
        """The keys of all artifacts, in no order."""
        return (meta.parent.name for meta in self.root.glob(f"??/*/{content.META}"))

    def pack(self, key: str) -> bytes:
        """The artifact as one tar archive, for a node that does not share this disk.

        Raises:
            KeyError: There is no such artifact, or it is damaged.
        """
        folder = self.open(key)
        if folder is None:
            raise KeyError(key)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in [content.META, *self.meta(key)["digests"]]:
                archive.add(folder / name, arcname=name)
        return buffer.getvalue()

    def unpack(self, key: str, data: bytes) -> Path:
        """Commit what ``pack`` of another store gave, after checking its digests.

        Raises:
            ValueError: The archive is damaged, or holds what no ``pack`` puts there.
            MachineError: The disk is full.
        """
        target = self._folder(key)
        with self.writing(key) as folder:
            _extract(data, folder)
            meta = content.read_meta(folder) or {"digests": {}}
            expected = {content.META, *meta["digests"]}
            found = {file.relative_to(folder).as_posix() for file in content.files(folder)}
            if found != expected or not content.intact(folder):
                raise ValueError(f"the archive of artifact {key} is damaged")
            return _land(folder, target, lambda: self.open(key))

    def size_bytes(self) -> int:
        """The bytes that the whole store takes."""
        return disk.tree_bytes(self.root)

    def collect(self, limit_bytes: int, keep: Set[str] = frozenset()) -> int:
        """Remove the artifacts unused for longest until the rest fits in ``limit_bytes``.

        Args:
            limit_bytes: The bytes that may stay.
            keep: Keys that stay whatever their size.

        Returns:
            The bytes that were freed.
        """
        self.sweep()
        before = total = self.size_bytes()
        for _, key in sorted((_last_use(self._folder(key)), key) for key in self.keys()):
            if total <= limit_bytes:
                break
            if key not in keep:
                total -= disk.tree_bytes(self._folder(key))
                self._remove(self._folder(key))
        return before - total

    def sweep(self) -> None:
        """Remove what writers that were killed left behind."""
        folder = self.root / "tmp"
        for stem in {path.stem for path in folder.glob("*")}:
            lock = folder / f"{stem}.lock"
            descriptor = locks.acquire(lock, wait=False)
            if descriptor is None:
                continue
            shutil.rmtree(folder / stem, ignore_errors=True)
            locks.release(lock, descriptor)

    def _folder(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not an artifact's key: {key!r}")
        return self.root / key[:2] / key

    @contextmanager
    def _scratch(self, key: str) -> Iterator[Path]:
        """A name in ``tmp`` whose lock says that its writer lives; removed in the end."""
        path = self.root / "tmp" / f"{key}-{uuid.uuid4().hex[:12]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with locks.held(path.with_suffix(".lock")):
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)

    def _remove(self, folder: Path) -> None:
        """Take an artifact away whole: it disappears by a rename, then its files are removed."""
        with self._scratch(folder.name) as scratch, suppress(FileNotFoundError):
            folder.rename(scratch)


@cache
def _intact(folder: Path, stamp: tuple[int, int]) -> bool:
    """Whether the artifact passes, asked once a process for each artifact put at ``folder``."""
    del stamp
    return content.intact(folder)


def _stamp(folder: Path) -> tuple[int, int]:
    """What changes when another artifact is put at the same place."""
    try:
        found = (folder / content.META).stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_ino, found.st_mtime_ns


def _last_use(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _land(folder: Path, target: Path, winner: Callable[[], Path | None]) -> Path:
    """Flush ``folder`` and rename it to ``target``, or keep the intact ``winner`` that is there."""
    for path in [*content.files(folder), *(p for p in folder.rglob("*") if p.is_dir()), folder]:
        disk.flush(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if (first := winner()) is not None:
                return first
        else:
            disk.flush(target.parent)
            return target


def _extract(data: bytes, folder: Path) -> None:
    """The regular files of a tar archive into ``folder``; whatever points out of it is refused."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            if not all(member.isfile() for member in archive):
                raise ValueError("an archive of an artifact holds files only")
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"the archive cannot be read: {error}") from error
