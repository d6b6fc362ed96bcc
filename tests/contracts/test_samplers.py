"""What every sampler must do; a new file in autotune/samplers is tested by existing."""

import random

import pytest

from autotune import plugins
from autotune.space import Choice, Configuration, Is, Knob, Range, Space
from autotune.trial import (
    Completed,
    Estimate,
    Failed,
    Measurement,
    Rejected,
    Stopped,
    Trial,
)

OBJECTIVES = {"accuracy": "max", "latency_p50_ms": "min"}
SPACE = Space(
    knobs=(
        Knob("backend", Choice(("torch", "onnxruntime"))),
        Knob("level", Choice(("basic", "all")), when=Is("backend", ("onnxruntime",))),
        Knob("freeze", Choice((False, True)), when=Is("backend", ("torch",))),
        Knob("precision", Choice(("fp32", "int8"))),
        Knob("samples", Range(32, 96, step=32), when=Is("precision", ("int8",))),
        Knob("threads", Choice((1,))),
    ),
    rules=(lambda s: "no int8" if s.get("freeze") and s["precision"] == "int8" else None,),
)
POINTS = {p.key: p for p in SPACE.grid().points}
ROUGH = Space(
    (
        Knob("lr", Range(1e-4, 1e-1, log=True)),
        Knob("width", Range(1, 4096, log=True)),
        Knob("ratio", Range(0.0, 0.9)),
        Knob("prune", Choice((False, True))),
    )
)


@pytest.fixture(params=plugins.names("samplers"))
def plugin(request):
    return plugins.load("samplers", request.param)


def completed(number, point):
    rng = random.Random(point.key)
    values = {"accuracy": Estimate(rng.random()), "latency_p50_ms": Estimate(1 + rng.random())}
    return Trial(number, point, "sampler", Completed(Measurement(values)))


def ended(number, point):
    """Every way a trial can end or not, in turn."""
    outcomes = (
        completed(number, point).outcome,
        Failed("export", "crashed"),
        None,
        Stopped("cannot reach the front"),
        Rejected("no such kernel"),
        Completed(Measurement({"accuracy": Estimate(0.5)})),
        Completed(Measurement({"accuracy": Estimate(0.5), "latency_p50_ms": Estimate(0.0)})),
    )
    return Trial(number, point, "sampler", outcomes[number % len(outcomes)])


def walk(suggest, count, trial=completed, seed=0):
    history = []
    for number in range(count):
        point = suggest(history, seed)
        if point is None:
            break
        history.append(trial(number, point))
    return history


def test_it_says_what_it_is(plugin):
    assert plugin.summary
    assert "\n" not in plugin.summary


@pytest.mark.parametrize("trial", [completed, ended])
def test_a_finite_space_is_proposed_point_by_point_then_none(plugin, trial):
    suggest = plugin.sampler(SPACE, OBJECTIVES)
    history = walk(suggest, len(POINTS) + 1, trial)
    assert sorted(t.configuration.key for t in history) == sorted(POINTS)
    assert suggest(history, 0) is None


def test_the_same_history_and_seed_give_the_same_proposal(plugin):
    suggest = plugin.sampler(SPACE, OBJECTIVES)
    history = walk(suggest, 13, ended)
    for length in range(len(history)):
        fresh = plugin.sampler(SPACE, OBJECTIVES)
        assert fresh(history[:length], 0) == history[length].configuration
        assert suggest(history[:length], 0) == history[length].configuration


def test_the_seed_matters(plugin):
    walks = {
        tuple(t.configuration.key for t in walk(plugin.sampler(ROUGH, OBJECTIVES), 3, seed=seed))
        for seed in range(4)
    }
    assert len(walks) == 4


def test_outcomes_that_come_late_and_out_of_order_change_nothing_but_the_next_proposal(plugin):
    suggest = plugin.sampler(ROUGH, OBJECTIVES)
    history = walk(suggest, 14, lambda n, p: Trial(n, p, "sampler"))
    for number in (3, 0, 13, 7, *range(14)):
        history[number] = completed(number, history[number].configuration)
        suggest(history, 0)
    assert suggest(history, 0) == plugin.sampler(ROUGH, OBJECTIVES)(history, 0)


def test_a_continuous_space_gives_new_points_of_it(plugin):
    history = walk(plugin.sampler(ROUGH, OBJECTIVES), 25)
    points = [t.configuration for t in history]
    assert len({p.key for p in points}) == 25
    assert all(ROUGH.configure(p) == p for p in points)
    assert {type(p["lr"]) for p in points} == {float}
    assert {type(p["width"]) for p in points} == {int}


def test_trials_that_are_not_of_the_space_are_no_obstacle(plugin):
    foreign = [
        Configuration((("backend", "tvm"), ("precision", "fp32"))),
        Configuration((("backend", "torch"), ("freeze", 1), ("precision", "fp32"))),
        Configuration((("backend", "torch"), ("precision", "fp32"))),
    ]
    history = [completed(n, p) for n, p in enumerate(foreign * 5)]
    assert plugin.sampler(SPACE, OBJECTIVES)(history, 0).key in POINTS


def test_where_every_point_is_removed_there_is_none(plugin):
    space = Space((Knob("a", Choice((1, 2))), Knob("b", Choice((1, 2)))), (lambda _: "never",))
    assert plugin.sampler(space, OBJECTIVES)([], 0) is None
    rough = Space((Knob("a", Range(0.0, 1.0)),), (lambda _: "never",))
    assert plugin.sampler(rough, OBJECTIVES)([], 0) is None


def test_one_objective_is_enough(plugin):
    assert len(walk(plugin.sampler(SPACE, {"accuracy": "max"}), 13)) == 13


def test_it_is_silent_and_leaves_the_global_random_numbers_alone(plugin, capfd):
    state = random.getstate()
    walk(plugin.sampler(SPACE, OBJECTIVES), 13, ended)
    assert random.getstate() == state
    assert capfd.readouterr() == ("", "")
