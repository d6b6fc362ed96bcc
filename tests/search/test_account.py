"""What a search says that it spent."""

import time

import pytest

from autotune.artifact import Stage
from autotune.engine.plan import Plan
from autotune.search import account
from autotune.space import Configuration
from autotune.trial import Trial


def chain(batch: int) -> Plan:
    """A distilled network, shared; its latency at each batch is not."""
    source = Stage("model", "m:f", "network")
    student = Stage("distill", "m:f", "network", inputs=(source,), hints={"trains": True})
    accuracy = Stage("accuracy", "m:f", "accuracy", inputs=(student,))
    latency = Stage("latency", "m:f", "latency", {"batch": batch}, (student,))
    return Plan(student, accuracy, latency)


def test_shared_trainings_are_counted_once():
    trials = [
        (
            Trial(0, Configuration(()), "sampler", executed=("distill", "accuracy", "latency")),
            chain(1),
        ),
        (Trial(1, Configuration(()), "sampler", executed=("latency",)), chain(2)),
        (Trial(2, Configuration(()), "sampler", executed=("latency",)), chain(4)),
    ]
    trained = [True, False, False, False, False]  # distill, accuracy, latency three times
    found = account.stages(trials, trained)
    assert found["stages_needed"] == 9
    assert found["stages_executed"] == 5
    assert found["trainings_executed"] == 1
    assert found["trainings_needed"] == 3
    assert found["trainings_without_sharing"] == 3


def test_overhead_is_the_time_in_which_nothing_ran(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    spent = account.Account()
    spent.ran(True, 1001.0, 4.0)
    spent.ran(False, 1002.0, 1.0)  # inside the first
    spent.ran(False, 1006.0, 2.0)
    spent.ended()
    spent.ended()
    now = 1009.0
    assert spent.overhead_s_per_trial() == pytest.approx((1 + 1 + 1) / 2)
