"""Models that do not stay as they are: memory that grows, answers that change."""

import mmap

import numpy as np
import pytest

from autotune.measure import steady

PAGE = 4096


def test_what_is_kept_from_every_call_is_a_leak():
    """Real memory of this very process: pages that are written to, and never let go."""
    kept = []

    def call(index):
        pages = mmap.mmap(-1, 4 * PAGE)  # fresh ones, not what an earlier test gave back
        pages.write(b"1" * len(pages))
        kept.append(pages)

    found = steady.leak(call, typical_s=0.002, suspected_bytes=4 * PAGE)
    assert found == pytest.approx(4 * PAGE, rel=0.3)


def test_what_is_let_go_again_is_no_leak():
    def call(index):
        np.ones(4 * PAGE, dtype=np.uint8)

    assert steady.leak(call, typical_s=0.002, suspected_bytes=4 * PAGE) is None


def test_what_a_collection_gives_back_is_no_leak():
    """Cycles pile up while the collector is off, as it is where latencies are taken."""

    def call(index):
        cycle = [np.ones(64 * PAGE, dtype=np.uint8)]
        cycle.append(cycle)

    assert steady.leak(call, typical_s=0.02, suspected_bytes=64 * PAGE) is None


def test_the_search_for_a_large_leak_stays_small():
    calls = []
    steady.leak(calls.append, typical_s=1e-6, suspected_bytes=2**20)
    assert len(calls) <= 64
    assert calls == list(range(len(calls)))


@pytest.mark.parametrize(
    ("steps", "per_call"),
    [
        ([8, 8, 8, 8, 8, 8, 8, 8], 0.8),
        ([0, 16, 16, 0, 16, 16, 16, 16], 1.2),
        ([900, 0, 0, 0, 0, 0, 0, 0], None),
        ([8, 8, 8, 8, 0, 0, 0, 0], None),
        ([8, -8, 8, -8, 8, -8, 8, -8], None),
        ([0, 0, 0, 0, 0, 0, 0, 0], None),
    ],
)
def test_only_steady_growth_counts(steps, per_call):
    readings = np.cumsum([1000, *steps]).tolist()
    found = steady.growth(readings, calls=10)
    assert found == (None if per_call is None else pytest.approx(per_call, rel=0.15))


@pytest.mark.parametrize(
    ("again", "far"),
    [
        ([1.0, -2.0], None),
        ([1.0, -2.0 + 1e-6], None),
        ([1.0, -2.5], 0.5),
        ([np.nan, -2.0], np.inf),
        ([1.0], np.inf),
    ],
)
def test_answers_differ_beyond_rounding(again, far):
    assert steady.difference(np.array([1.0, -2.0]), np.array(again)) == far


def test_the_same_infinities_are_the_same():
    answer = np.array([np.nan, np.inf, -np.inf, 1.0])
    assert steady.difference(answer, answer.copy()) is None
    assert steady.difference(answer, -answer) == np.inf
