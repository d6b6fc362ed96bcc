"""What is in an artifact's folder, and whether it is what was put there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

META = "meta.json"


def files(folder: Path) -> list[Path]:
    """Every file under ``folder``, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_meta(folder: Path, stage: str, seconds: float, facts: Mapping[str, Any]) -> None:
    """Describe the files of ``folder`` in its ``meta.json``.

    Raises:
        ValueError: A fact is not finite, or a file is called ``meta.json`` already.
        OSError: The disk refuses.
    """
    if (folder / META).exists():
        raise ValueError(f"a stage may not write {META}: the store does")
    found = files(folder)
    meta = {
        "stage": stage,
        "seconds": seconds,
        "facts": dict(facts),
        "digests": {file.relative_to(folder).as_posix(): _digest(file) for file in found},
        "bytes": sum(file.stat().st_size for file in found),
    }
    text = json.dumps({**meta, "checksum": _checksum(meta)}, indent=1, allow_nan=False)
    (folder / META).write_text(text, encoding="utf-8")


def read_meta(folder: Path) -> dict[str, Any] | None:
    """What ``write_meta`` wrote, without its checksum; None where it is missing or damaged."""
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_bytes())
        checksum = meta.pop("checksum")
        return meta if checksum == _checksum(meta) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def intact(folder: Path) -> bool:
    """Whether every file that was described is there, and as it was."""
    meta = read_meta(folder)
    if meta is None:
        return False
    try:
        return all(_digest(folder / name) == digest for name, digest in meta["digests"].items())
    except FileNotFoundError:
        return False


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checksum(meta: Mapping[str, Any]) -> str:
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
