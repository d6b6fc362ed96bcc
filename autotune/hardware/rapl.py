"""Energy of the processor's packages, as the kernel's powercap tells it (RAPL of Intel and AMD)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/class/powercap")
_ZONES = "intel-rapl:*"
"""The driver's name on AMD's processors too; below a package are its parts (``intel-rapl:0:0``)."""


def read(root: Path | None = None) -> Mapping[Path, int]:
    """What each package has counted, in microjoules; empty where none can be read.

    A virtual machine has none, and on most systems only root may read them.
    """
    found = {}
    for zone in (root or ROOT).glob(_ZONES):
        with suppress(OSError, ValueError):
            if (zone / "name").read_text().startswith("package"):
                found[zone] = int((zone / "energy_uj").read_text())
    return found


def spent_mj(before: Mapping[Path, int], after: Mapping[Path, int]) -> float | None:
    """Millijoules between two readings that ``read`` gave; None where a package was not read twice.

    A counter that is the lower one afterwards has begun anew, once: read it every few minutes.
    """
    if not before or set(before) != set(after):
        return None
    total = 0
    for zone, start in before.items():
        more = after[zone] - start
        try:
            total += more if more >= 0 else more + _range(zone)
        except (OSError, ValueError):
            return None
    return total / 1e3


def _range(zone: Path) -> int:
    return int((zone / "max_energy_range_uj").read_text())
