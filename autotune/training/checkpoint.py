"""The state of a training on disk: replaced whole, and read back only where it is whole."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Put ``state`` (tensors and plain values) in the place of what ``path`` holds."""
    import torch

    fresh = path.with_suffix(".new")
    torch.save(dict(state), fresh)
    fresh.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """What ``save`` wrote; None where nothing is there, or what is there is damaged."""
    import torch

    if not path.exists():
        return None
    try:
        found: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError):  # torn by a crash of the machine
        return None
    return found
