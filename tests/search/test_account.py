"""What a search says that it spent."""

import time
from dataclasses import replace

import pytest

from autotune.artifact import Stage
from autotune.engine.plan import Plan
from autotune.search import account
from autotune.space import Configuration
from autotune.trial import Completed, Measurement, Stopped, Trial

DONE = Completed(Measurement({}))


def chain(batch: int) -> Plan:
    """A distilled network, shared; its latency at each batch is not."""
    source = Stage("model", "m:f", "network")
    student = Stage("distill", "m:f", "network", inputs=(source,), hints={"trains": True})
    accuracy = Stage("accuracy", "m:f", "accuracy", inputs=(student,))
    latency = Stage("latency", "m:f", "latency", {"batch": batch}, (student,))
    return Plan(student, accuracy, latency)


def ran(trials):
    """Every stage of these trials once, but for the model as given."""
    stages = {s.key: s for _, plan in trials for s in plan.chain() if s.name != "model"}
    return [(key, s.name == "distill") for key, s in stages.items()]


def test_shared_trainings_are_counted_once():
    trials = [
        (
            Trial(
                0, Configuration(()), "sampler", DONE, executed=("distill", "accuracy", "latency")
            ),
            chain(1),
        ),
        (Trial(1, Configuration(()), "sampler", DONE, executed=("latency",)), chain(2)),
        (Trial(2, Configuration(()), "sampler", DONE, executed=("latency",)), chain(4)),
    ]
    found = account.stages(trials, ran(trials))
    assert found["stages_needed"] == 9
    assert found["stages_executed"] == 5
    assert found["trainings_executed"] == 1
    assert found["trainings_needed"] == 3
    assert found["trainings_without_sharing"] == 3


def test_what_is_not_finished_counts_as_far_as_it_ran():
    proxy = Stage("latency", "m:f", "latency", {"untrained": True})
    plans = [chain(1), replace(chain(2), proxy=proxy), chain(4), chain(8)]
    trials = [
        (Trial(0, Configuration(()), "sampler", DONE), plans[0]),
        (Trial(1, Configuration(()), "sampler", Stopped("no use", {})), plans[1]),
        (Trial(2, Configuration(()), "sampler"), plans[2]),
        (Trial(3, Configuration(()), "sampler"), plans[3]),
    ]
    executed = [*ran(trials[:1]), (proxy.key, False), (plans[2].latency.key, False)]
    found = account.stages(trials, executed)
    assert found["stages_executed"] == 5
    assert found["stages_needed"] == 3 + (2 + 1) + 3 + 2  # the last two share what trial 0 made
    assert found["stages_needed"] >= found["stages_executed"]
    assert account.stages(trials[1:], [])["stages_needed"] == 0


def test_overhead_is_the_time_in_which_nothing_ran(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    spent = account.Account()
    spent.ran(("a", True), 1001.0, 4.0)
    spent.ran(("b", False), 1002.0, 1.0)  # inside the first
    spent.ran(("c", False), 1006.0, 2.0)
    spent.ended()
    spent.ended()
    now = 1009.0
    assert spent.overhead_s_per_trial() == pytest.approx((1 + 1 + 1) / 2)
