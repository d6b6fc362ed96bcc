"""The laws of the search space."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import Infeasible
from autotune.space import AllOf, Choice, Configuration, Is, Knob, Not, Range, Space


def space() -> Space:
    return Space(
        knobs=(
            Knob("backend", Choice(("torch", "onnxruntime"))),
            Knob("level", Choice(("basic", "all")), when=Is("backend", ("onnxruntime",))),
            Knob("freeze", Choice((False, True)), when=Is("backend", ("torch",))),
            Knob("precision", Choice(("fp32", "int8"))),
            Knob("samples", Range(32, 128, step=32), when=Is("precision", ("int8",))),
        ),
        rules=(
            lambda s: (
                "torch has no int8"
                if s["backend"] == "torch" and s["precision"] == "int8"
                else None
            ),
        ),
    )


def test_grid_counts_feasible_points_and_says_what_was_removed():
    grid = space().grid()
    # torch: 2 freeze x fp32; onnxruntime: 2 levels x (fp32 + 4 sample counts)
    assert len(grid.points) == 2 + 2 * (1 + 4)
    assert grid.removed == {"torch has no int8": 2 * 4}
    assert len({p.key for p in grid.points}) == len(grid.points)


def test_inactive_knobs_are_dropped_so_a_duplicate_cannot_be_written():
    a = space().configure({"backend": "torch", "freeze": True, "precision": "fp32", "level": "all"})
    b = space().configure({"backend": "torch", "freeze": True, "precision": "fp32", "samples": 64})
    assert a == b
    assert a.key == b.key
    assert "level" not in a


def test_infeasible_points_say_why():
    with pytest.raises(Infeasible, match="torch has no int8"):
        space().configure({"backend": "torch", "freeze": True, "precision": "int8", "samples": 32})
    with pytest.raises(Infeasible, match="backend = 'tvm' is not in the space"):
        space().configure({"backend": "tvm"})
    with pytest.raises(Infeasible, match="level has no value"):
        space().configure({"backend": "onnxruntime", "precision": "fp32"})


def test_neighbours_change_one_knob_and_what_hangs_on_it():
    point = space().configure({"backend": "torch", "freeze": True, "precision": "fp32"})
    assert [dict(n) for n in space().neighbours(point, "backend")] == [
        {"backend": "onnxruntime", "level": "basic", "precision": "fp32"}
    ]
    assert list(space().neighbours(point, "precision")) == []


def test_continuous_space_has_no_grid():
    assert Space((Knob("lr", Range(1e-4, 1e-1, log=True)),)).grid() is None


def test_a_knob_may_only_depend_on_earlier_ones():
    with pytest.raises(ValueError, match="depends on"):
        Space((Knob("a", Choice((1,)), when=Is("b", (1,))), Knob("b", Choice((1,)))))


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (lambda: Choice(()), "at least one"),
        (lambda: Choice((1, 1)), "twice"),
        (lambda: Range(2, 1), "above high"),
        (lambda: Range(0, 1, log=True), "above 0"),
        (lambda: Range(0, 1, step=0), "positive"),
    ],
)
def test_bad_domains_are_refused(domain, message):
    with pytest.raises(ValueError, match=message):
        domain()


def test_true_is_not_one():
    assert not Choice((True, False)).contains(1)
    one, true = Configuration((("a", 1),)), Configuration((("a", True),))
    assert one.key != true.key


@given(st.randoms(use_true_random=False))
def test_draws_are_points_of_the_grid(rng):
    assert space().draw(rng) in space().grid().points


@given(st.integers(1, 50), st.integers(0, 200), st.integers(1, 9))
def test_a_stepped_range_stays_within_its_bounds(low, width, step):
    values = Range(low, low + width, step=step).grid()
    assert values[0] == low
    assert low + width - step < values[-1] <= low + width
    assert all(Range(low, low + width, step=step).contains(v) for v in values)


@given(st.booleans(), st.booleans())
def test_conditions_follow_logic(a, b):
    settings = {"a": a, "b": b}
    is_a, is_b = Is("a", (True,)), Is("b", (True,))
    assert AllOf((is_a, Not(is_b))).holds(settings) == (a and not b)
