"""How far a training is, told in one line: after each epoch, and now and then in a long one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

EVERY_S = 2.0
"""Within an epoch a line is told no more often than this."""


@dataclass
class Pace:
    """The pace of one session of a training.

    Attributes:
        report: Is told the lines.
        epochs: How many there will be, at most.
        start: How many an earlier session had done.
    """

    report: Callable[[str], None]
    epochs: int
    start: int
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def within(self, done: float, loss: float) -> None:
        """Tell that ``done`` epochs (a fraction counts) are over, unless a line was told lately."""
        if time.monotonic() - self.told >= EVERY_S:
            self.tell(done, f"loss {loss:.4g}")

    def tell(self, done: float, words: str) -> None:
        """Tell how many epochs are over, in these words, and how long the rest will take."""
        self.told = time.monotonic()
        left = (self.told - self.began) / (done - self.start) * (self.epochs - done)
        rest = f", {left:.0f} s left" if done < self.epochs else ""
        self.report(f"epoch {math.ceil(done)} of {self.epochs}, {words}{rest}")
