"""How far this machine can be trusted as a clock: the reference's work timed on a lane.

``autotune doctor`` shows it. A process of its own (``python -m autotune.engine.noise`` and what is
asked), pinned to the lane before it imports anything, times the work as a measurement would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from autotune import hardware
from autotune.engine.child import die_with
from autotune.errors import MachineError
from autotune.target import Target

SECONDS = 2.0
SPREAD = 1.25
"""With a p95 over so many medians of work that is always the same, a tail is the machine's."""
WAITED = 0.03
"""As a measurement's blocks (``measure.reference``): a share of the time without the core."""
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Noise:
    """What the reference's work met on a lane.

    Attributes:
        cores: The lane's.
        p50_ms, p95_ms: The work's time.
        waited: The share of the time in which it was ready to run and something else had the core.
        steal: The share that the host of this machine had given to others.

    The shares are None where the kernel does not tell them.
    """

    cores: tuple[int, ...]
    p50_ms: float
    p95_ms: float
    waited: float | None
    steal: float | None

    @property
    def spread(self) -> float:
        """The p95 over the median."""
        return self.p95_ms / self.p50_ms

    def warnings(self) -> tuple[str, ...]:
        """Why figures measured now are not to be trusted, with what was seen; empty: they are."""
        shares = {
            "of the time another process or thread had the core": self.waited,
            "of the time the machine's host had given the core to others": self.steal,
        }
        told = [f"{share:.1%} {what}" for what, share in shares.items() if (share or 0) > WAITED]
        if self.spread > SPREAD:
            told.append(f"the same work took {self.spread:.2f} times its median at the p95")
        return tuple(told)


def noise(
    target: Target, seconds: float = SECONDS, tell: Callable[[str], None] = lambda _: None
) -> Noise:
    """Time the reference's work on a free lane of the target.

    Args:
        target: Whose lane.
        seconds: For how long.
        tell: Is told whom a lane is waited for, and "" when that is over.

    Raises:
        MachineError: The machine has no such lane, or the process that times did not end well.
    """
    with hardware.lane(target, tell) as cores:
        stolen = hardware.steal(cores)
        asked = {"cores": cores, "seconds": seconds, "parent": os.getpid()}
        told = _child(asked, seconds + _TIMEOUT_S)
        return Noise(cores, told["p50_ms"], told["p95_ms"], told["waited"], stolen())


def _child(asked: dict[str, object], timeout_s: float) -> dict[str, float]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "autotune.engine.noise", json.dumps(asked)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise MachineError(f"the machine's noise could not be measured: {error}") from error
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(asked: str) -> None:
    """Time the work on the cores and print what was seen."""
    request = json.loads(asked)
    die_with(request["parent"])
    os.sched_setaffinity(0, request["cores"])
    print(json.dumps(_timed(request["seconds"])))  # noqa: T201 - the answer


def _timed(seconds: float) -> dict[str, float | None]:
    import time

    import numpy as np

    from autotune.measure import reference

    waited, begin = reference.waited_ns(), time.perf_counter_ns()
    times = reference.times(seconds)
    spent, after = time.perf_counter_ns() - begin, reference.waited_ns()
    p50, p95 = (float(q) for q in np.quantile(times, [0.5, 0.95]))
    share = None if waited is None or after is None else max(0.0, (after - waited) / spent)
    return {"p50_ms": p50, "p95_ms": p95, "waited": share}


if __name__ == "__main__":
    main(sys.argv[1])
