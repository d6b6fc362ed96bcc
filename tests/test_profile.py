"""A profile as a value: what adds up, what survives the journal."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.profile import Operation, Profile

words = st.sampled_from(["Conv", "Gemm", "Relu"])
rows = st.lists(
    st.builds(
        Operation,
        words,
        st.text(max_size=3),
        st.sampled_from(["fp32", "int8", ""]),
        st.floats(0, 1e3),
        st.integers(1, 4),
    ),
    max_size=12,
)


@given(rows)
def test_operators_hold_the_same_time_and_calls_longest_first(rows):
    profile = Profile(tuple(rows), 1.0, 8)
    found = profile.operators()
    assert math.isclose(math.fsum(row.ms for row in found), profile.total_ms, abs_tol=1e-9)
    assert sum(row.calls for row in found) == sum(row.calls for row in rows)
    assert [row.ms for row in found] == sorted((row.ms for row in found), reverse=True)
    kinds = {(row.operator, row.precision) for row in rows}
    assert {(row.operator, row.precision) for row in found} == kinds
    assert len(found) == len(kinds)


@given(rows)
def test_a_record_is_read_back(rows):
    profile = Profile(tuple(rows), 1.5, 8, bare_ms=1.0, waited=0.25)
    assert Profile.from_record(json.loads(json.dumps(profile.record()))) == profile


def test_the_overhead_is_told_where_the_request_was_timed_without_the_profiler():
    assert Profile((), 1.5, 8, bare_ms=1.2).overhead == pytest.approx(0.25)
    assert Profile((), 1.5, 8).overhead is None


@pytest.mark.parametrize("ms", [math.nan, math.inf, -1e-9])
def test_a_time_that_cannot_be_is_refused(ms):
    with pytest.raises(ValueError, match="Conv must be finite"):
        Operation("Conv", "", "fp32", ms)
