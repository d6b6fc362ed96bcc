"""How far a stage is, in its own words: one line in its scratch folder, replaced as it goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

FILE = "progress.txt"


def teller(scratch: Path) -> Callable[[str], None]:
    """What a stage tells its line with; an empty one takes it back."""

    def tell(line: str) -> None:
        print(line, flush=True)  # noqa: T201 - it ends in the stage's log
        fresh = scratch / f"{FILE}.new"
        fresh.write_text(line)
        fresh.replace(scratch / FILE)

    return tell
