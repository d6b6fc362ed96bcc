"""How requests come to a model while it is measured, and what is told of it (measurement.md, 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from autotune.slo import QUANTITIES, Quantity
from autotune.space import Settings

Kind = Literal["single_stream", "offline", "server"]

MAX_BATCH = "server.max_batch"
MAX_QUEUE_DELAY = "server.max_queue_delay_ms"


@dataclass(frozen=True)
class Scenario:
    """How requests come.

    Attributes:
        kind: One at a time (single_stream), the next as soon as the last is answered (offline), or
            single samples at random moments that a dynamic batcher puts together (server).
        p99_ms: The server's limit on the p99, in ms; None elsewhere.
    """

    kind: Kind = "single_stream"
    p99_ms: float | None = None

    def request(self, settings: Settings) -> dict[str, Any]:
        """What the measuring process is told of it, for a configuration's knobs."""
        if self.kind != "server":
            return {"kind": self.kind}
        return {
            "kind": self.kind,
            "max_batch": settings[MAX_BATCH],
            "max_queue_delay_ms": settings.get(MAX_QUEUE_DELAY, 0.0),
            "p99_ms": self.p99_ms,
        }

    @property
    def figure(self) -> Quantity:
        """What tells one configuration's speed from another's."""
        return QUANTITIES[_FIGURES[self.kind]]


_FIGURES = {"single_stream": "latency_p50", "offline": "throughput", "server": "server_rate"}
SINGLE_STREAM = Scenario()
