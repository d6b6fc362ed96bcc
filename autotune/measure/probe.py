"""One rate tried: how many requests it takes to judge it, and whether it holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autotune.measure import statistics
from autotune.measure.server import GiveUp, Load, ServerRun, Times

LEVEL = 0.99
LEAST_REQUESTS = 299
"""Fewer independent latencies cannot bound a p99 at 95 %: 1 - 0.99^n >= 0.95."""
AMPLE_REQUESTS = 1.2 * LEAST_REQUESTS
"""So many are planned for: what they will be worth is not known exactly."""
USUAL_REQUESTS = 1050
"""So many correlated ones are usually worth 299 (measurement.md, section 4)."""
SATURATED = 0.99
"""With more batches pressed a server cannot keep up: its queue grows, no percentile is steady."""
_HOPELESS = 0.05
"""With more requests above the limit a rate is far too high, whatever else is measured at it."""
_FEW = 10
_MEMORY = 3.0
_SENT_IN_TIME = 0.9


@dataclass(frozen=True)
class Probe:
    """One rate that was tried.

    Attributes:
        rate_per_s: Requests per second that were asked for.
        answered: Requests that got their answer, or surely would have got it too late.
        above: Those of them that took longer than the limit.
        effective: How many independent requests tell as much of the p99; ever fewer the nearer the
            server is to its limit, where the queue forgets slowly.
        hopeless: Whether the server does not keep up, or far more than 1 % took longer.
        unanswered: Requests that waited for their answer when a hopeless probe was ended.
        p50_ms, p99_ms: Of the latencies that were seen.
        bound_ms: The upper bound of the p99; None where the probe alone cannot tell it.
        why: In words why the probe alone does not show that the rate holds; empty where it does.
        mean_batch: Requests in a batch.
        pressed_share: Batches that were full before the server was free, as a share.
        late_p99_ms: How late batches began by the instrument's own fault.
        seconds: Wall time.
    """

    rate_per_s: float
    answered: int
    above: int
    effective: float
    hopeless: bool
    unanswered: int
    p50_ms: float
    p99_ms: float
    bound_ms: float | None
    why: str
    mean_batch: float
    pressed_share: float
    late_p99_ms: float
    seconds: float

    @property
    def effective_above(self) -> float:
        """How many independent requests above the limit those seen are worth."""
        return self.above * self.effective / self.answered


def plan(
    rate_per_s: float, limit_ms: float, *, share_s: float, left_s: float, most: int, seed: int
) -> Load | None:
    """As many requests as fit the share of time, but enough to judge by where time is left at all.

    Args:
        rate_per_s: To be tried.
        limit_ms: On the p99; the load gives up once far more than 1 % of its requests are above.
        share_s: The time that the probe should take.
        left_s: The time that it may take.
        most: The most requests.
        seed: Of the arrivals.

    Returns:
        None where so few requests fit that no bound could be told.
    """
    wanted = max(rate_per_s * share_s, USUAL_REQUESTS)
    count = math.floor(min(wanted, _SENT_IN_TIME * rate_per_s * left_s, most))
    if count < LEAST_REQUESTS:
        return None
    give_up = GiveUp(limit_ms, max(_FEW, round(_HOPELESS * count)))
    return Load(rate_per_s, count, seconds=left_s, seed=seed, give_up=give_up)


def judge(load: Load, seen: ServerRun, limit_ms: float) -> Probe:
    """What was seen under the load, against the limit."""
    latencies_ms = counted(seen, limit_ms) / 1e6
    answered, above = len(latencies_ms), int((latencies_ms > limit_ms).sum())
    gave_up = load.give_up is not None and above > load.give_up.allowed
    pressed = seen.pressed_share > SATURATED
    effective = min(statistics.quantile_size(latencies_ms, LEVEL), _forgotten(seen))
    rank = None if gave_up else statistics.pooled_rank(answered, effective, LEVEL)
    bound = None if rank is None else float(np.sort(latencies_ms)[rank - 1])
    if gave_up:
        why = f"{above} of the first {answered} requests took longer"
    elif pressed:
        why = f"{seen.pressed_share:.1%} of the batches were full and waiting: it cannot keep up"
    elif bound is None:
        why = f"{answered} requests, as correlated as these, cannot bound it"
    else:
        why = "" if bound <= limit_ms else f"its upper bound is {bound:.4g} ms"
    return Probe(
        rate_per_s=load.rate_per_s,
        answered=answered,
        above=above,
        effective=effective,
        hopeless=gave_up or pressed,
        unanswered=seen.unanswered,
        p50_ms=float(np.median(latencies_ms)),
        p99_ms=float(np.quantile(latencies_ms, LEVEL)),
        bound_ms=bound,
        why=why,
        mean_batch=float(seen.batch_sizes.mean()),
        pressed_share=seen.pressed_share,
        late_p99_ms=float(np.quantile(seen.late_ns, LEVEL)) / 1e6,
        seconds=seen.seconds,
    )


def counted(seen: ServerRun, limit_ms: float) -> Times:
    """The latencies in ns, with the age of those who already wait for longer than the limit."""
    return np.concatenate([seen.latencies_ns, seen.waiting_ns[seen.waiting_ns > 1e6 * limit_ms]])


def _forgotten(seen: ServerRun) -> float:
    """How often the queue has forgotten what was before.

    No more often than a batch left nobody waiting, and the nearer the server is to its limit the
    more such batches that takes: a queue's memory grows with (1 - load)^-2 services (Whitt 1989,
    Planning queueing simulations). Its factor was set by M/D/1 queues at loads of 0.55 to 0.98.
    """
    free = 1 - seen.pressed_share
    return min(1.0, _MEMORY * free) * free * len(seen.batch_sizes)
