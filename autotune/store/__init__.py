"""Content-addressed artifacts and the append-only journal."""

from autotune.store.artifacts import Store
from autotune.store.journal import Journal, read

__all__ = ["Journal", "Store", "read"]
