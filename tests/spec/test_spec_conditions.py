"""Conditions judged before any point exists, against all points written out."""

from hypothesis import given
from hypothesis import strategies as st

from autotune.space import ALWAYS, AllOf, Choice, Is, Knob, Not, Range
from autotune.spec.conditions import NEVER, in_words, possible, settle

NAMES = ("a", "b", "c", "d")


def conditions(names):
    if not names:
        return st.just(ALWAYS)
    leaf = st.builds(
        Is, st.sampled_from(names), st.lists(st.integers(0, 4), min_size=1, max_size=2).map(tuple)
    )
    return st.recursive(
        leaf,
        lambda inner: (
            st.builds(Not, inner) | st.builds(AllOf, st.lists(inner, max_size=3).map(tuple))
        ),
        max_leaves=4,
    )


@st.composite
def spaces(draw):
    """Knobs that hang on earlier ones, and a condition on them."""
    knobs = []
    for index, name in enumerate(NAMES):
        values = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True))
        knobs.append(Knob(name, Choice(tuple(values)), draw(conditions(NAMES[:index]))))
    return knobs, draw(conditions(NAMES))


def points(knobs, settings=()):
    """Every way to give the active knobs values."""
    if not knobs:
        yield dict(settings)
    elif not knobs[0].when.holds(dict(settings)):
        yield from points(knobs[1:], settings)
    else:
        for value in knobs[0].domain.grid():
            yield from points(knobs[1:], (*settings, (knobs[0].name, value)))


@given(spaces())
def test_a_condition_is_possible_exactly_where_a_point_meets_it(space):
    knobs, condition = space
    assert possible(condition, knobs) == any(condition.holds(p) for p in points(knobs))


@given(spaces())
def test_settling_changes_nothing_for_the_knobs_that_are_there(space):
    knobs, condition = space
    present = knobs[:2]
    names = {knob.name for knob in present}
    settled = settle(condition, names)
    assert settled.knobs() <= names
    # knobs that the dropped ones would need are absent too, so each point is judged alike
    free = [Knob(knob.name, knob.domain) for knob in present]
    assert all(settled.holds(p) == condition.holds(p) for p in points(free))


def test_a_continuous_range_is_judged_by_its_ends_and_what_is_mentioned():
    knobs = (Knob("x", Range(0.0, 1.0)),)
    assert possible(Is("x", (0.5,)), knobs)
    assert not possible(Is("x", (2.0,)), knobs)
    assert possible(Not(Is("x", (0.5,))), knobs)


def test_in_words():
    pruned = Is("prune.structure", ("channel",))
    assert in_words(pruned) == "prune.structure is channel"
    assert in_words(Not(pruned)) == "prune.structure is not channel"
    assert in_words(AllOf((pruned, Is("batch", (1, 2))))) == (
        "prune.structure is channel and batch is 1 or 2"
    )
    assert in_words(Not(AllOf((Is("a", (1,)), Is("b", (2,)))))) == "not (a is 1 and b is 2)"
    assert in_words(ALWAYS) == "always"
    assert in_words(NEVER) == "not (always)"
