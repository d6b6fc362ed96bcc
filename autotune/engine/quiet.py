"""Keep what libraries print out of the user's terminal, and in the log."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

LOG: ContextVar[Path | None] = ContextVar("autotune_log", default=None)
"""The file that chatter goes to; None throws it away."""


@contextmanager
def quiet() -> Iterator[None]:
    """Send the standard output and error of this process and its libraries to the log."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    target = LOG.get()
    with target.open("ab") if target else tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, copy in enumerate(saved, start=1):
                os.dup2(copy, descriptor)
                os.close(copy)
