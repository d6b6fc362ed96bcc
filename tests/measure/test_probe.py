"""How a rate is judged, and when a probe is worth its time."""

import dataclasses

import numpy as np
import pytest

from autotune.measure.probe import judge, plan
from autotune.measure.server import GiveUp, Load, ServerRun


def seen(latencies_ms, pressed_share=0.5, unanswered=0):
    latencies_ns = np.round(np.asarray(latencies_ms) * 1e6).astype(np.int64)
    ones = np.ones(len(latencies_ns), dtype=np.int64)
    return ServerRun(latencies_ns, ones, 0 * ones, unanswered, pressed_share, 1.0)


# ---- the plan ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "share_s", "left_s", "most", "requests"),
    [
        (1000.0, 5.0, 30.0, 100_000, 5000),  # its share of the time
        (100.0, 5.0, 30.0, 100_000, 1050),  # more than its share, so that it can tell
        (20.0, 5.0, 30.0, 100_000, 540),  # all that is left
        (1000.0, 5.0, 30.0, 3000, 3000),
    ],
)
def test_a_probe_is_as_long_as_it_must_be(rate, share_s, left_s, most, requests):
    load = plan(rate, 5.0, share_s=share_s, left_s=left_s, most=most, seed=4)
    assert load.requests == requests
    assert load.seed == 4
    assert load.give_up.above_ms == 5.0
    assert load.give_up.allowed == round(0.05 * requests)


def test_a_probe_that_could_not_tell_is_not_made():
    assert plan(10.0, 5.0, share_s=5.0, left_s=33.0, most=10**5, seed=0) is None  # 297 requests
    assert plan(10.0, 5.0, share_s=5.0, left_s=34.0, most=10**5, seed=0).requests == 306
    assert plan(10.0, 5.0, share_s=5.0, left_s=-1.0, most=10**5, seed=0) is None


# ---- the verdict ---------------------------------------------------------------------------------

LOAD = Load(100.0, 2000, give_up=GiveUp(above_ms=5.0, allowed=12))


def test_a_rate_holds_whose_bound_is_within_the_limit():
    latencies = np.random.default_rng(2).uniform(1.0, 4.9, size=2000)
    probe = judge(LOAD, seen(latencies), limit_ms=5.0)
    assert probe.why == ""
    assert not probe.hopeless
    assert probe.above == 0
    assert probe.p99_ms <= probe.bound_ms <= 4.9
    assert (probe.rate_per_s, probe.answered) == (100.0, 2000)


def test_a_p99_within_the_limit_is_not_enough():
    latencies = np.random.default_rng(3).uniform(1.0, 4.9, size=2000)
    latencies[100:112] = 6.0  # no more than would be allowed if they came one by one
    probe = judge(LOAD, seen(latencies), limit_ms=5.0)
    assert probe.p99_ms < 5.0
    assert "bound" in probe.why
    assert not probe.hopeless  # together with others it may yet hold
    assert probe.above == 12
    assert probe.effective < 1000
    assert probe.effective_above == 12 * probe.effective / 2000


@pytest.mark.parametrize(
    ("run", "why", "hopeless"),
    [
        (seen(np.full(40, 9.0), unanswered=7), "40 of the first 40 requests took longer", True),
        (
            seen(np.linspace(1, 4, 2000)),
            "2000 requests, as correlated as these, cannot bound",
            False,
        ),
        (seen(np.full(2000, 2.0), pressed_share=0.995), "99.5% of the batches were full", True),
    ],
)
def test_a_rate_that_does_not_hold_says_why(run, why, hopeless):
    probe = judge(LOAD, run, limit_ms=5.0)
    assert probe.why.startswith(why)
    assert probe.hopeless == hopeless
    assert probe.unanswered == run.unanswered


def test_who_waits_for_longer_than_the_limit_when_time_is_up_was_too_late():
    waiting = np.array([9, 8, 7, 3, 1], dtype=np.int64) * 1_000_000
    ended = dataclasses.replace(seen(np.full(1500, 2.0), unanswered=5), waiting_ns=waiting)
    probe = judge(LOAD, ended, limit_ms=5.0)
    assert (probe.above, probe.answered) == (3, 1503)


def test_the_nearer_to_its_limit_the_less_a_server_tells():
    latencies = np.random.default_rng(1).uniform(1.0, 4.9, size=2000)
    sizes = [
        judge(LOAD, seen(latencies, pressed_share=share), limit_ms=5.0).effective
        for share in (0.2, 0.7, 0.9, 0.95)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == pytest.approx(3 * 0.05**2 * 2000)
