"""When a measurement may be given up, and what becomes of one that was."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import autotune
from autotune.artifact import Stage
from autotune.engine import execute, lane
from autotune.engine.graph import Handle
from autotune.engine.plan import Effort, plan
from autotune.front import non_dominated
from autotune.measure import latency_columns
from autotune.scenario import Scenario
from autotune.search import race as races
from autotune.search.pipeline import Pipeline
from autotune.search.race import entered, lost, race
from autotune.search.starts import baselines
from autotune.space import Configuration
from autotune.store.artifacts import Store
from autotune.trial import Completed, Estimate, Measurement, Rejected, Stopped, Trial

OBJECTIVES = {"accuracy": "max", "latency_p50_ms": "min"}
PRICED = {**OBJECTIVES, "cost_usd_per_million": "min", "latency_p99_ms": "min"}


def rival(number, accuracy, p50, batch=1, **more):
    values = {"accuracy": Estimate(accuracy), "latency_p50_ms": Estimate(p50, p50, 1.02 * p50)}
    values |= {column: Estimate(value) for column, value in more.items()}
    point = Configuration((("batch", batch),))
    return Trial(number, point, "sampler", Completed(Measurement(values)))


def test_the_fastest_that_is_as_accurate_sets_the_limit():
    rivals = [rival(1, 0.99, 2.0), rival(2, 0.98, 1.0), rival(3, 0.97, 0.5)]
    found = race({"accuracy": 0.98}, 1, rivals, OBJECTIVES)
    assert found.rival == 2
    assert found.above_ms == pytest.approx(races.MARGIN * 1.02)


@pytest.mark.parametrize(
    ("known", "batch", "objectives"),
    [
        ({"accuracy": 0.995}, 1, OBJECTIVES),  # nobody is as accurate
        ({}, 1, OBJECTIVES),  # its accuracy is not known
        ({"accuracy": 0.9}, 2, OBJECTIVES),  # none of its batch
        ({"accuracy": 0.9}, 1, {**OBJECTIVES, "memory_peak_bytes": "min"}),  # only it would tell
        ({"accuracy": 0.9}, 1, {"accuracy": "max"}),  # its latency does not matter
    ],
)
def test_a_race_that_cannot_be_decided_is_none(known, batch, objectives):
    assert race(known, batch, [rival(1, 0.99, 2.0)], objectives) is None
    rejected = Trial(2, Configuration((("batch", batch),)), "sampler", Rejected("no"))
    assert race(known, batch, [rejected], objectives) is None


def test_what_is_known_beside_the_accuracy_counts():
    objectives = {**OBJECTIVES, "size_bytes": "min"}
    rivals = [rival(1, 0.99, 1.0, size_bytes=100.0), rival(2, 0.99, 2.0, size_bytes=50.0)]
    assert race({"accuracy": 0.9, "size_bytes": 100.0}, 1, rivals, objectives).rival == 1
    assert race({"accuracy": 0.9, "size_bytes": 60.0}, 1, rivals, objectives).rival == 2


def of(samples_ms, batch, accuracy, price=0.1):
    """A trial's figures with its cost, as a measurement of these latencies would tell them."""
    columns = latency_columns(np.round(samples_ms * 1e6).astype(np.int64), batch)
    values = {c: e.value for c, e in columns.items()}
    cost = price / 3600 / values["throughput_per_s"] * 1e6
    return {**values, "cost_usd_per_million": cost, "accuracy": accuracy}


streams = st.lists(st.floats(0.01, 100.0), min_size=30, max_size=60).map(np.array)


@given(streams, streams, st.integers(1, 8), st.floats(0.0, 0.1))
def test_whoever_loses_is_dominated_whatever_its_latencies(ours, theirs, batch, ahead):
    """The law: a median above the limit, and the rival is better in every objective."""
    mine, other = of(ours, batch, 0.8), of(theirs, batch, 0.8 + ahead)
    values = {c: Estimate(v) for c, v in other.items()}
    point = Configuration((("batch", batch),))
    trial = Trial(1, point, "sampler", Completed(Measurement(values)))
    found = race({"accuracy": 0.8}, batch, [trial], PRICED)
    assert found is not None
    if mine["latency_p50_ms"] > found.above_ms:
        pair = np.array([[figures[c] for c in PRICED] for figures in (mine, other)])
        assert list(non_dominated(pair, [d == "max" for d in PRICED.values()])) == [False, True]


@pytest.fixture
def measured(tiny_taken, target, tmp_path, monkeypatch):
    """Runs a latency's stage under a race, into a store of the test's own.

    The measuring process, which test_loop and test_child try, answers here that 1 ms was measured.
    """
    monkeypatch.setattr(lane, "ask", answered)
    taken, subject, _ = tiny_taken
    store = Store(tmp_path / "store")
    results = []
    for source in (subject.source, subject.data):
        store.unpack(source.key, taken.pack(source.key))
        results.append(execute.hit(source, store, carry=False))
    stage = Stage(
        name="latency",
        function="autotune.engine.lane:latency",
        kind="latency",
        parameters={
            "backend": "torch",
            "settings": {"precision": "fp32", "torch.channels_last": False, "torch.freeze": False},
            "batch": 4,
            "threads": 1,
            "effort": {"max_s": 0.8},
        },
        inputs=(subject.source, subject.data),
        hints={"target": dataclasses.asdict(target)},
        lane=target.name,
    )

    def run(above_ms):
        raced = entered(stage, races.Race(above_ms, rival=7))
        assert raced.key == stage.key
        return Handle(raced, result=execute.run(raced, str(store.root), None, False, *results))

    return store, run


def answered(module, request, folder, timeout_s):
    assert request["effort"]["max_s"] == 0.8
    gave_up = request["effort"]["give_up_above_ms"] < 1.0
    np.save(request["samples"], np.full(30 if gave_up else 300, 1_000_000))
    columns = {"latency_p50_ms": {"value": 1.0}}
    return {"gave_up": gave_up, "samples": 30 if gave_up else 300, "columns": columns}


def test_a_lost_race_is_not_kept_and_a_won_one_is_the_full_measurement(measured):
    store, run = measured
    gone = run(above_ms=1e-6)
    assert gone.result.ok
    assert gone.result.unfinished
    assert not store.has(gone.stage.key)
    outcome = lost(gone)
    assert isinstance(outcome, Stopped)
    assert outcome.reason.startswith("trial 7 is no less accurate")
    assert outcome.evidence["give_up_above_ms"] == 1e-6 < outcome.evidence["latency_p50_ms"]
    kept = run(above_ms=1e6)
    assert lost(kept) is None
    assert store.has(kept.stage.key)
    assert (store.open(kept.stage.key) / lane.SAMPLES).exists()


class Known:
    """A graph on which every accuracy is known and every latency loses the race it is in."""

    def __init__(self, accuracy):
        self.accuracy = accuracy

    def submit(self, stage):
        if stage.kind == "accuracy":
            return Handle(stage, result=self.accuracy)
        facts = {"columns": {"latency_p50_ms": {"value": 9.0}}, "samples": 30}
        facts["unfinished"] = lane.RACE in stage.hints
        return Handle(stage, result=execute.Result(stage.key, "latency", facts=facts))

    def pending(self, stage):
        return True

    def stage_seconds(self, stages):
        return {}


JUDGED = execute.Result(
    "k",
    "accuracy",
    facts={"columns": {"accuracy": {"value": 0.9}}, "size_bytes": 100, "network": {}},
)


def begun(tiny_taken, tiny, accuracy, origin="sampler", changes=None):
    """A trial begun beside one that is better in everything: the pipeline."""
    spec = autotune.load(tiny / "space.yaml", {"objectives": {"accuracy": "max", **FAST}})
    spec = dataclasses.replace(spec, **(changes or {}))
    (point, *_) = baselines(spec)
    targets = {t.name: t for t in spec.targets}
    pipeline = Pipeline(
        spec,
        Known(accuracy),
        lambda c: plan(c, tiny_taken[1], targets, Effort()),
        log=lambda _: None,
        record=lambda _: None,
        ran=(),
    )
    pipeline.start(Trial(5, point, origin), [rival(4, 0.95, 1.0, int(point["batch"]))])
    return pipeline


FAST = {"latency_p50": "min"}


def test_a_trial_whose_accuracy_is_known_is_raced_and_stopped(tiny_taken, tiny):
    pipeline = begun(tiny_taken, tiny, JUDGED)
    (trial,) = pipeline.settle([])
    assert isinstance(trial.outcome, Stopped)
    assert trial.outcome.reason.startswith("trial 4 is no less accurate")
    assert trial.outcome.evidence["latency_p50_ms"] == 9.0
    assert not pipeline.running


@pytest.mark.parametrize(
    ("accuracy", "origin", "changes"),
    [
        (None, "sampler", {}),  # not judged yet
        (dataclasses.replace(JUDGED, error="it broke"), "sampler", {}),
        (JUDGED, "baseline", {}),
        (JUDGED, "sampler", {"scenario": Scenario("offline")}),
    ],
)
def test_what_is_not_raced(tiny_taken, tiny, accuracy, origin, changes):
    (running,) = begun(tiny_taken, tiny, accuracy, origin, changes).running.values()
    assert lane.RACE not in running.latency.stage.hints
    assert running.latency.stage.key == running.plan.latency.key
