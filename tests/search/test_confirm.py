"""The front measured again: who, how the rounds are joined, and a whole run."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import autotune
from autotune.artifact import Stage
from autotune.engine.execute import Result
from autotune.engine.lane import SAMPLES
from autotune.scenario import Scenario
from autotune.search import confirm
from autotune.search.confirm import Bench, members, reserve_s
from autotune.space import Configuration
from autotune.store.artifacts import Store
from autotune.trial import Completed, Estimate, Measurement, Trial, doubt

CALM = {
    "noisy": False,
    "samples": 400,
    "blocks": 8,
    "disturbed_blocks": 1,
    "retries": 1,
    "reference_ms": 0.2,
    "reference_ratio": 1.0,
    "run_queue_share": 0.01,
    "columns": {},
}
NOISY = {**CALM, "noisy": True, "run_queue_share": 0.5}


def trial(number, accuracy, p50, origin="sampler", batch=1, facts=CALM):
    values = {
        "accuracy": Estimate(accuracy),
        "latency_p50_ms": Estimate(p50, 0.99 * p50, 1.01 * p50),
        "latency_p99_ms": Estimate(2 * p50, 1.9 * p50, 2.2 * p50),
        "cost_usd_per_million": Estimate(0.1 * p50),
        "size_bytes": Estimate(1000.0),
    }
    point = Configuration((("backend", "torch"), ("batch", batch)))
    return Trial(number, point, origin, Completed(Measurement(values, facts, "key")))


@pytest.fixture
def spec(tiny):
    return autotune.load(tiny / "space.yaml")


@pytest.fixture
def bench(spec, tmp_path):
    def left_s():
        return 100.0

    graph = SimpleNamespace(store=Store(tmp_path / "store"))
    return Bench(spec, graph, lambda _: None, left_s, lambda: None)


def rounds(store, *medians, facts=CALM, count=400):
    """Results whose ``count`` samples lie in the store, one a median in ms."""
    found = []
    for number, ms in enumerate(medians):
        key = Stage("confirm", "m:f", "latency", {"round": number, "ms": ms, "f": str(facts)}).key
        spread = np.random.default_rng(number).normal(1.0, 0.002, count)
        with store.writing(key) as out:
            np.save(out / SAMPLES, (ms * 1e6 * spread).astype(np.int64))
            store.commit(key, out, stage="confirm", seconds=1.0, facts=facts)
        found.append(Result(key, "confirm", True, 1.0, facts=facts))
    return found


@pytest.mark.parametrize(("budget_s", "seconds"), [(None, 20.0), (240, 20.0), (60, 6.0)])
def test_a_tenth_of_the_budget_is_kept_back_and_twenty_seconds_at_most(budget_s, seconds):
    assert reserve_s(budget_s) == pytest.approx(seconds)


def test_the_front_is_confirmed_with_its_baselines_the_pick_first(spec):
    trials = [
        trial(0, 1.00, 4.0, "baseline"),
        trial(1, 1.00, 9.0, "baseline", batch=4),
        trial(2, 0.98, 1.0),
        trial(3, 0.97, 2.0),  # dominated
        trial(4, 0.70, 0.5, batch=4),  # on the front, though it misses the limit
    ]
    assert [t.number for t in members(trials, spec)] == [2, 0, 4, 1]


def test_where_nothing_was_measured_nobody_is_confirmed(spec, bench):
    lone = Trial(0, Configuration((("backend", "torch"),)), "baseline")
    assert members([lone], spec) == []
    assert list(confirm.confirm([lone], bench)) == []


def test_without_time_nothing_is_begun(bench):
    late = replace(bench, left_s=lambda: 0.0)
    assert list(confirm.confirm([trial(0, 1.0, 4.0, "baseline")], late)) == []


def test_as_many_are_confirmed_as_fit(bench):
    wanted = [replace(trial(n, 1.0, 1.0), stage_seconds={"latency": 1.0}) for n in range(9)]
    assert confirm._fitting(wanted, replace(bench, left_s=lambda: 7.0)) == wanted[:3]
    slow = [replace(t, stage_seconds={"latency": 60.0}) for t in wanted]
    assert confirm._fitting(slow, replace(bench, left_s=lambda: 9.0)) == slow[:1]


def test_what_the_rounds_told_replaces_what_the_search_saw_and_both_are_kept(bench):
    before = trial(3, 0.9, 1.0)
    results = rounds(bench.graph.store, 1.2, 1.3, 1.25)
    after = confirm._confirmed(before, before.measurement, results, bench).measurement
    assert after["latency_p50_ms"] == pytest.approx(1.25, rel=0.01)
    assert after["throughput_per_s"] == pytest.approx(800, rel=0.01)
    price = bench.spec.targets[0].lane_price_per_hour
    assert after["cost_usd_per_million"] == pytest.approx(price / 3600 / 800 * 1e6, rel=0.01)
    assert after["accuracy"] == 0.9
    assert after.facts["confirmed"]["rounds"] == 3
    assert after.facts["confirmed"]["before"]["latency_p50_ms"] == [1.0, 0.99, 1.01]
    assert after.facts["blocks"] == 24
    assert after.samples == "key"
    json.dumps(dict(after.facts), allow_nan=False)


def test_energy_is_told_by_the_rounds_in_which_it_could_be(bench):
    """Beside a training a processor's energy is nobody's; when the front is confirmed none runs."""
    store, before = bench.graph.store, trial(3, 0.9, 1.0)
    told = {**CALM, "columns": {"energy_mj_per_sample": {"value": 4.0}}}
    results = [*rounds(store, 1.2), *rounds(store, 1.3, facts=told)]
    after = confirm._confirmed(before, before.measurement, results, bench).measurement
    assert after["energy_mj_per_sample"] == 4.0
    silent = confirm._confirmed(before, before.measurement, results[:1], bench).measurement
    assert "energy_mj_per_sample" not in silent.values


def test_a_p99_that_the_rounds_cannot_bound_stays_as_it_was(bench):
    before = trial(3, 0.9, 1.0)
    results = rounds(bench.graph.store, 1.0, 1.0, count=100)
    after = confirm._confirmed(before, before.measurement, results, bench).measurement
    assert after.values["latency_p99_ms"] == before.measurement.values["latency_p99_ms"]


def test_disturbed_rounds_do_not_count_beside_calm_ones(bench):
    before = trial(3, 0.9, 1.0)
    results = [
        *rounds(bench.graph.store, 1.1),
        *rounds(bench.graph.store, 9.0, 9.0, facts=NOISY),
    ]
    after = confirm._confirmed(before, before.measurement, results, bench)
    assert after.measurement["latency_p50_ms"] == pytest.approx(1.1, rel=0.01)
    assert after.measurement.facts["confirmed"]["noisy_rounds"] == 2
    assert doubt(after) == ""


@pytest.mark.parametrize("medians", [(), (9.0, 9.0)])
def test_what_could_not_be_confirmed_keeps_its_value_and_says_so(bench, medians):
    before = trial(3, 0.9, 1.0)
    results = rounds(bench.graph.store, *medians, facts=NOISY)
    after = confirm._confirmed(before, before.measurement, results, bench)
    assert after.measurement.values == before.measurement.values
    assert after.measurement.facts["confirmed"]["rounds"] == 0
    assert "trial 3, could not be measured again" in doubt(after)


def test_between_noise_and_noise_the_longer_one_counts(bench):
    before = trial(3, 0.9, 140.0, facts=NOISY)
    results = rounds(bench.graph.store, 5.0, 5.0, facts=NOISY)
    after = confirm._confirmed(before, before.measurement, results, bench)
    assert after.measurement["latency_p50_ms"] == pytest.approx(5.0, rel=0.01)
    assert "was measured while something else ran" in doubt(after)


def served(store, number, rate, fails_at, p99=4.8, ended="found"):
    """A round of a server: the rate that holds (0 where none does), and the latencies there."""
    columns = {
        "server_rate_per_s": {"value": rate, "low": rate, "high": fails_at},
        "latency_p50_ms": {"value": 1.0 + number},
        "latency_p99_ms": {"value": p99, "low": p99, "high": p99},
    }
    told = {"ended": ended, "rate_per_s": rate or None, "reason": f"round {number}"}
    facts = {**CALM, "columns": columns, "server": told}
    return Result(f"key {number}", "confirm", True, 1.0, facts=facts)


@pytest.fixture
def serving(bench):
    return replace(bench, spec=replace(bench.spec, scenario=Scenario("server", 5.0)))


def serves(rate):
    """A trial whose rate the search found."""
    done = trial(3, 0.9, 1.0)
    values = {**done.measurement.values, "server_rate_per_s": Estimate(rate, rate, 1.1 * rate)}
    return replace(done, outcome=Completed(Measurement(values, CALM, "key")))


def test_of_a_servers_rounds_the_median_counts_and_the_interval_spans_them(serving):
    before = serves(2000.0)
    store = serving.graph.store
    found = [served(store, 0, 1800.0, 1900.0), served(store, 1, 1700.0, 1750.0, 4.5)]
    found.append(served(store, 2, 1500.0, 1600.0))
    after = confirm._confirmed(before, before.measurement, found, serving).measurement
    assert after.values["server_rate_per_s"] == Estimate(1700.0, 1500.0, 1900.0)
    assert after["latency_p99_ms"] == 4.5
    assert after["latency_p50_ms"] == 2.0
    price = serving.spec.targets[0].lane_price_per_hour
    assert after["cost_usd_per_million"] == pytest.approx(price / 3600 / 1700 * 1e6)
    assert after.facts["server"]["reason"] == "round 1"
    assert after.facts["confirmed"]["before"]["server_rate_per_s"] == [2000.0, 2000.0, 2200.0]


def test_offline_rounds_tell_samples_a_second_alone(bench):
    offline = replace(bench, spec=replace(bench.spec, scenario=Scenario("offline")))
    before = trial(3, 0.9, 1.0, batch=4)
    results = rounds(bench.graph.store, 1.2, 1.3, 1.25)
    after = confirm._confirmed(before, before.measurement, results, offline).measurement
    assert after["throughput_per_s"] == pytest.approx(4 * 800, rel=0.01)
    assert after.values["latency_p50_ms"] == before.measurement.values["latency_p50_ms"]


def test_a_rate_that_does_not_hold_again_costs_nothing_and_says_why(serving):
    before = serves(2000.0)
    found = [served(serving.graph.store, 0, 0.0, 90.0, p99=7.0, ended="no rate")]
    after = confirm._confirmed(before, before.measurement, found, serving)
    assert after.measurement["server_rate_per_s"] == 0
    assert "cost_usd_per_million" not in after.measurement.values
    assert after.measurement["latency_p99_ms"] == 7.0
    assert after.outcome.reason == "round 0"


def test_a_round_whose_time_was_up_tells_nothing(serving):
    before = serves(2000.0)
    found = [served(serving.graph.store, 0, 0.0, None, ended="time")]
    after = confirm._confirmed(before, before.measurement, found, serving).measurement
    assert after["server_rate_per_s"] == 2000.0
    assert after.facts["confirmed"]["rounds"] == 0


def test_a_servers_rounds_take_as_long_as_the_search_did(serving):
    stage = Stage("latency", "m:f", "latency", {"effort": {"tail_max_s": 7.0}})
    planned = replace(serving, planner=lambda _: SimpleNamespace(latency=stage))
    assert confirm._stage(serves(1.0), 0, planned).parameters["effort"] == {"tail_max_s": 7.0}
    waited = [replace(serves(1.0), stage_seconds={"latency": 90.0}) for _ in range(4)]
    two = 2 * confirm.LEAST_ROUNDS * (confirm.effort(planned.spec).tail_max_s + 1.5)
    assert len(confirm._fitting(waited, replace(planned, left_s=lambda: two + 1.0))) == 2


@pytest.mark.slow
def test_a_run_confirms_its_front_once(tiny, tmp_path):
    run = autotune.run(tiny / "space.yaml", out=tmp_path / "run", overrides={"budget.trials": 5})
    data = run.data
    events = [event["event"] for event in data.events]
    told = [e for e in data.events if e["event"] == "confirmed"]
    assert told
    assert events.index("confirmed") > max(i for i, e in enumerate(events) if e == "outcome")
    assert len({event["number"] for event in told}) == len(told)
    best = {t.number: t for t in data.trials}
    for event in told:
        facts = best[event["number"]].measurement.facts
        assert facts["confirmed"] == event["outcome"]["facts"]["confirmed"]
        first = [
            e for e in data.events if e["event"] == "outcome" and e["number"] == event["number"]
        ]
        assert "confirmed" not in first[0]["outcome"]["facts"]
        if facts["confirmed"]["rounds"]:
            shown = facts["confirmed"]["before"]["latency_p50_ms"]
            assert shown == first[0]["outcome"]["values"]["latency_p50_ms"]
    picked = run.pick()
    assert picked.trial in {event["number"] for event in told}
    begin = time.monotonic()
    again = autotune.run(tiny / "space.yaml", out=tmp_path / "run", overrides={"budget.trials": 5})
    assert time.monotonic() - begin < 3
    assert again.pick() == picked
    assert len([e for e in again.data.events if e["event"] == "confirmed"]) == len(told)
