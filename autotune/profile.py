"""Where the time of one request goes, as the runtime's own profiler saw it: values only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Operation:
    """A node of the graph that ran, or all calls of one operator where the profiler tells no node.

    Attributes:
        operator: Its kind, in the runtime's own word.
        name: The node, or the shapes it works on; "" where neither is known.
        precision: What it computes in, in the words of the knob where there is one; "" if unknown.
        ms: Its time within one request.
        calls: How often it is called within one request.

    Raises:
        ValueError: The time is no finite number from 0 up.
    """

    operator: str
    name: str
    precision: str
    ms: float
    calls: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ms) and self.ms >= 0):
            raise ValueError(f"the time of {self.operator} must be finite, not {self.ms}")


@dataclass(frozen=True)
class Profile:
    """What a profiler saw of one configuration.

    Attributes:
        rows: Operations that do not overlap, in the order in which they first ran.
        wall_ms: What one of these requests took with the profiler on, mean of the same requests.
        requests: How many requests the times are the mean of.
        bare_ms: p50 of such requests without the profiler, in the same process just before; None
            where they were not timed.
        waited: The share of the profiler's time that the process waited for a core in; None where
            nothing tells it.
    """

    rows: tuple[Operation, ...]
    wall_ms: float
    requests: int
    bare_ms: float | None = None
    waited: float | None = None

    @property
    def total_ms(self) -> float:
        """The time of all operations in one request."""
        return math.fsum(row.ms for row in self.rows)

    @property
    def overhead(self) -> float | None:
        """What the profiler added to a request, as a share of the request without it."""
        return None if not self.bare_ms else self.wall_ms / self.bare_ms - 1

    def operators(self) -> tuple[Operation, ...]:
        """The rows summed by operator and precision, the longest first; their names are gone."""
        found: dict[tuple[str, str], list[Operation]] = {}
        for row in self.rows:
            found.setdefault((row.operator, row.precision), []).append(row)
        summed = (
            Operation(o, "", p, math.fsum(r.ms for r in rows), math.fsum(r.calls for r in rows))
            for (o, p), rows in found.items()
        )
        return tuple(sorted(summed, key=lambda row: -row.ms))

    def record(self) -> dict[str, Any]:
        """As JSON values, which ``from_record`` reads."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Profile:
        """What ``record`` told."""
        return cls(**{**record, "rows": tuple(Operation(**row) for row in record["rows"])})
