"""When the latency of an untrained structure says that training it is not worth its while."""

import dataclasses

import pytest

import autotune
from autotune.engine.execute import Result
from autotune.scenario import Scenario
from autotune.search import prospect
from autotune.space import Configuration
from autotune.trial import Completed, Estimate, Failed, Measurement, Stopped, Trial

OBJECTIVES = {"accuracy": "max", "latency_p50_ms": "min"}


def proxy(low, value, high):
    columns = {
        "latency_p50_ms": {"value": value, "low": low, "high": high},
        "throughput_per_s": {"value": 1e3 / value},
    }
    return Result("key", "latency", facts={"columns": columns})


def completed(number, accuracy, p50):
    values = {"accuracy": Estimate(accuracy), "latency_p50_ms": Estimate(p50)}
    point = Configuration((("batch", number),))
    return Trial(number, point, "sampler", Completed(Measurement(values)))


def decide(found, trials, target, objectives=OBJECTIVES):
    return prospect.hopeless(found, target, trials, objectives, {"accuracy"})


def test_slower_than_the_most_accurate_trial_cannot_matter(target):
    stopped = decide(
        proxy(2.0, 2.1, 2.2), [completed(7, 0.99, 1.0), completed(8, 0.9, 0.5)], target
    )
    assert isinstance(stopped, Stopped)
    assert "trial 7" in stopped.reason
    assert stopped.evidence == {"accuracy": 0.99, "latency_p50_ms": 2.0}


def test_faster_than_the_most_accurate_trial_may_matter(target):
    trials = [completed(7, 0.99, 1.0), completed(8, 0.9, 0.1)]
    assert decide(proxy(0.9, 1.05, 1.1), trials, target) is None


def test_nothing_is_concluded_from_nothing(target):
    failed = Trial(0, Configuration(()), "sampler", Failed("export", "no"))
    assert decide(proxy(2.0, 2.1, 2.2), [], target) is None
    assert decide(proxy(2.0, 2.1, 2.2), [failed], target) is None


def test_an_objective_that_only_a_trained_model_has_keeps_the_question_open(target):
    trials = [completed(7, 0.99, 1.0)]
    objectives = {**OBJECTIVES, "size_bytes": "min"}
    assert decide(proxy(2.0, 2.1, 2.2), trials, target, objectives) is None


RATES = {"accuracy": "max", "server_rate_per_s": "max"}


def serves(rate, fails_at, ended="found"):
    columns = {"server_rate_per_s": {"value": rate, "low": rate, "high": fails_at}}
    told = {"ended": ended, "reason": "no rate meets p99 <= 5 ms"}
    return Result("key", "latency", facts={"columns": columns, "server": told})


def rated(number, accuracy, rate):
    values = {"accuracy": Estimate(accuracy), "server_rate_per_s": Estimate(rate)}
    point = Configuration((("batch", number),))
    return Trial(number, point, "sampler", Completed(Measurement(values)))


def test_a_structure_that_serves_less_than_the_most_accurate_cannot_matter(target):
    trials = [rated(7, 0.99, 2000.0)]
    assert isinstance(decide(serves(1500.0, 1600.0), trials, target, RATES), Stopped)
    assert decide(serves(1900.0, 2100.0), trials, target, RATES) is None


def test_a_structure_that_no_rate_suits_is_not_trained(target):
    stopped = decide(serves(0.0, 90.0, "no rate"), [], target, RATES)
    assert "no rate meets p99 <= 5 ms" in stopped.reason


def test_a_rate_that_was_not_found_in_the_time_keeps_the_question_open(target):
    trials = [rated(7, 0.99, 2000.0)]
    assert decide(serves(10.0, None, "time"), trials, target, RATES) is None


def test_a_servers_p99_is_in_its_rate_already(tiny):
    limits = {"slo": ["latency_p99 <= 5ms", "accuracy >= 0.5", "minimize size"]}
    spec = autotune.load(tiny / "space.yaml", limits)
    server = dataclasses.replace(spec, scenario=Scenario("server", 5.0))
    assert "latency_p99_ms" in prospect.counting(spec)
    assert "latency_p99_ms" not in prospect.counting(server)
    assert "size_bytes" in prospect.counting(server)


@pytest.mark.slow
def test_a_run_stops_what_cannot_matter_before_it_is_trained(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(prospect, "WORTH", 0.0)  # the tiny task trains in no time
    spec = autotune.load(tiny / "space.yaml", {"budget.trials": 30, "budget.time": "120s"})
    spec = dataclasses.replace(spec, objectives=OBJECTIVES)
    run = autotune.run(spec, out=tmp_path / "run")
    stopped = [t for t in run.data.trials if isinstance(t.outcome, Stopped)]
    untrained = [t for t in stopped if "is better than it could become" in t.outcome.reason]
    assert untrained
    raced = [t for t in stopped if t not in untrained]
    assert all("no less accurate and better in every other" in t.outcome.reason for t in raced)
    for trial in untrained:
        assert not {"distill", "finetune"} & set(trial.executed)
    assert (run.trials["outcome"] == "stopped").sum() == len(stopped)


def test_what_the_slo_limits_counts_too(tiny):
    spec = autotune.load(tiny / "space.yaml", {"slo": ["latency_p99 <= 5ms", "minimize size"]})
    assert {"latency_p99_ms", "size_bytes"} <= set(prospect.counting(spec))
    assert set(spec.objectives) <= set(prospect.counting(spec))
