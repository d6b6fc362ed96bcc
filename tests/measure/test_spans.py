"""Spans: which lie within others, which belong to a request, which requests count."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autotune.measure.spans import Span, middle, outermost, walls_ms, within

FRAMES = [Span("request", 0, 10), Span("request", 10, 30)]
SPANS = [Span("a", 1, 5), Span("b", 2, 3), Span("c", 2, 5), Span("a", 5, 6), Span("a", 12, 20)]


def test_what_lies_within_another_is_left_out():
    assert [(s.word, s.start) for s in outermost(reversed(SPANS))] == [
        ("a", 1),
        ("a", 5),
        ("a", 12),
    ]


def test_what_does_not_count_holds_nothing():
    found = outermost(SPANS, lambda span: span.word != "a")
    assert [(s.word, s.start) for s in found] == [("c", 2)]  # as long as b, and around it


def test_spans_belong_to_the_frame_that_they_begin_in():
    assert [[s.start for s in part] for part in within(SPANS, FRAMES)] == [[1, 2, 2, 5], [12]]
    assert within([], FRAMES) == [[], []]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_the_middle_half_lies_around_the_median(walls):
    chosen = middle(walls)
    inside = [walls[i] for i in chosen]
    assert len(set(chosen)) == len(chosen) == len(walls) - 2 * (len(walls) // 4)
    assert min(inside) <= np.median(walls) <= max(inside)
    low = sum(wall < min(inside) for wall in walls)
    high = sum(wall > max(inside) for wall in walls)
    assert max(low, high) <= len(walls) // 4


def test_a_few_that_were_disturbed_do_not_count():
    assert 3 not in middle([1.0, 1.1, 0.9, 500.0])


def test_each_request_is_timed():
    walls = walls_ms(lambda request: time.sleep(request["ms"] / 1e3), [{"ms": 5}, {"ms": 20}])
    assert walls[0] >= 5
    assert walls[1] >= 20
