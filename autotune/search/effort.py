"""How long a search measures one configuration."""

from __future__ import annotations

from autotune.engine.plan import Effort
from autotune.slo import QUANTITIES
from autotune.spec import Spec

_RATE_S = (8.0, 30.0)
"""The least and the most that finding a server's rate may take."""
_REQUESTS = 600
"""In between it is this many times the limit: a server that meets it answers faster than that, and
from so many requests a p99 can be told."""


def effort(spec: Spec) -> Effort:
    """How long to measure: where the SLO limits the p99, until that can be told.

    A server's rate is looked for in ``tail_max_s``, whatever it is.
    """
    limit = spec.scenario.p99_ms
    if limit is not None:
        least, most = _RATE_S
        seconds = min(most, max(least, _REQUESTS * limit / 1e3))
        return Effort(timeout_s=spec.stage_timeout_s, tail_max_s=seconds)
    p99 = QUANTITIES["latency_p99"]
    limits = [lim.bound for lim in spec.slo.limits if lim.quantity == p99 and not lim.relative]
    return Effort(timeout_s=spec.stage_timeout_s, tail_below_ms=min(limits, default=None))
