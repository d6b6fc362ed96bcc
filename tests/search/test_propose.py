"""What is tried next: starts, then the sampler and steps from the front, never twice."""

import pytest

from autotune.search.propose import EXPLORED, Proposal, Proposer, front
from autotune.space import Choice, Is, Knob, Space
from autotune.trial import Completed, Estimate, Failed, Measurement, Trial

OBJECTIVES = {"accuracy": "max", "latency_p50_ms": "min"}
SPACE = Space(
    (
        Knob("backend", Choice(("a", "b"))),
        Knob("level", Choice((0, 1, 2)), when=Is("backend", ("a",))),
        Knob("batch", Choice((1, 2, 4, 8))),
        Knob("threads", Choice(tuple(range(1, 11)))),
    )
)


def ended(number, point, origin="sampler", accuracy=0.9, latency=1.0):
    values = {"accuracy": Estimate(accuracy), "latency_p50_ms": Estimate(latency)}
    return Trial(number, point, origin, Completed(Measurement(values)))


def proposer(queue=(), cost=lambda _: 1.0):
    return Proposer(SPACE, OBJECTIVES, "random", 0, queue, cost)


def test_the_queue_comes_first_and_skips_what_was_tried():
    points = SPACE.grid().points
    queue = [
        Proposal(points[0], "baseline"),
        Proposal(points[0], "expert"),
        Proposal(points[3], "expert"),
    ]
    ask = proposer(queue)
    first = ask([])
    second = ask([ended(0, first.configuration)])
    assert (first.configuration, first.origin) == (points[0], "baseline")
    assert (second.configuration, second.origin) == (points[3], "expert")


def test_every_point_once_and_then_none():
    ask, history = proposer(), []
    while (proposal := ask(history)) is not None:
        history.append(ended(len(history), proposal.configuration, proposal.origin))
    assert {t.configuration for t in history} == set(SPACE.grid().points)
    assert len(history) == len(SPACE.grid().points)


def test_after_the_first_ones_every_second_is_a_step_from_the_front():
    ask, history = proposer(), []
    for number in range(EXPLORED + 4):
        proposal = ask(history)
        best = front(history, OBJECTIVES)
        if proposal.origin == "mutation":
            near = [
                p
                for t in best
                for k in SPACE.knobs
                if k.name in t.configuration
                for p in SPACE.neighbours(t.configuration, k.name)
            ]
            assert proposal.configuration in near
        history.append(ended(number, proposal.configuration, proposal.origin, latency=number + 1.0))
    origins = [trial.origin for trial in history]
    assert set(origins[:EXPLORED]) == {"sampler"}
    assert origins[EXPLORED:].count("mutation") == 2


def test_cheap_steps_are_preferred():
    point = SPACE.configure({"backend": "b", "batch": 1, "threads": 1})
    history = [ended(0, point)]
    dear = []
    for seed in range(40):
        ask = Proposer(
            SPACE, OBJECTIVES, "random", seed, (), lambda c: 0.0 if c["backend"] == "b" else 500.0
        )
        proposal = ask(history, cheap=True)
        assert proposal.origin == "mutation"
        dear.append(proposal.configuration["backend"] == "a")
    assert sum(dear) <= 2


def test_what_takes_too_long_gives_way_to_a_step_that_does_not():
    point = SPACE.configure({"backend": "b", "batch": 1, "threads": 1})
    rest = [c for c in SPACE.grid().points if c["backend"] == "a"]

    def cost(c):
        return 500.0 if c["backend"] == "a" else 1.0

    for seed in range(10):
        queue = [Proposal(c, "expert") for c in rest]
        ask = Proposer(SPACE, OBJECTIVES, "random", seed, queue, cost)
        proposal = ask([ended(0, point)], most_s=10.0)
        assert proposal.configuration["backend"] == "b"
    everything = [ended(i, c) for i, c in enumerate(SPACE.grid().points) if c["backend"] == "b"]
    left = Proposer(SPACE, OBJECTIVES, "random", 0, (), cost)(everything, most_s=10.0)
    assert left.configuration["backend"] == "a"  # nothing else is left


def test_failed_and_dominated_trials_are_not_on_the_front():
    points = SPACE.grid().points
    history = [
        ended(0, points[0], accuracy=0.9, latency=1.0),
        ended(1, points[1], accuracy=0.8, latency=2.0),
        Trial(2, points[2], "sampler", Failed("export", "no")),
        ended(3, points[3], accuracy=0.95, latency=3.0),
        Trial(4, points[4], "sampler"),
    ]
    assert [t.number for t in front(history, OBJECTIVES)] == [0, 3]
    assert front([], OBJECTIVES) == []


@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_function_of_history_and_seed(seed):
    history = [ended(i, p) for i, p in enumerate(SPACE.grid().points[:5])]
    asked = [Proposer(SPACE, OBJECTIVES, "tpe", seed, (), lambda _: 1.0)(history) for _ in range(2)]
    assert asked[0] == asked[1]
