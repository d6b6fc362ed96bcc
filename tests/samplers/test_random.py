"""The random sampler: balance between branches of unequal size."""

from collections import Counter

from autotune.samplers import random as plugin
from autotune.space import Choice, Is, Knob, Space
from autotune.trial import Trial


def test_a_small_branch_is_drawn_as_often_as_a_large_one():
    space = Space(
        (
            Knob("backend", Choice(("small", "large"))),
            Knob("level", Choice(tuple(range(1000))), when=Is("backend", ("large",))),
            Knob("hint", Choice(tuple(range(200))), when=Is("backend", ("small",))),
        )
    )
    suggest = plugin.sampler(space, {})
    history = []
    for number in range(100):
        history.append(Trial(number, suggest(history, 0), "sampler"))
    counts = Counter(t.configuration["backend"] for t in history)
    assert 35 <= counts["small"] <= 65
