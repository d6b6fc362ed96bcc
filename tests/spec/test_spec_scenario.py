"""The load scenario of a space file: its knobs, its limit, and what it cannot mean."""

import pytest

from autotune.errors import SpecError
from autotune.scenario import Scenario
from autotune.spec import catalog, differences, load

SERVER = """\
  server: {max_batch: [1, 4, 16], max_queue_delay_ms: [0, 1]}
  threads: 1
"""


@pytest.fixture
def serving(write):
    """The base file as a server's: nothing of it is about a single stream."""
    path = write("  batch: [1, 8]\n  threads: 1\n", SERVER)
    text = path.read_text().replace("{accuracy: max, latency_p50: min, cost: min}", "null")
    text = text.replace("objectives: null\n", "scenario: server\n")
    path.write_text(text)
    return path


def names(spec):
    return {knob.name for knob in spec.space.knobs}


def test_a_server_has_its_knobs_and_the_limit(serving):
    spec = load(serving)
    assert spec.scenario == Scenario("server", 2.0)
    assert spec.objectives == {
        "accuracy": "max",
        "server_rate_per_s": "max",
        "cost_usd_per_million": "min",
    }
    points = spec.space.grid().points
    assert {p["batch"] for p in points} == {1}
    assert {p["server.max_batch"] for p in points} == {1, 4, 16}
    assert all(("server.max_queue_delay_ms" in p) == (p["server.max_batch"] > 1) for p in points)


def test_the_tightest_limit_counts(serving):
    limits = ["latency_p99 <= 5ms", "latency_p99 <= 3ms", "accuracy >= 0.5"]
    assert load(serving, {"slo": limits}).scenario.p99_ms == 3.0


def test_its_resolved_form_is_an_equal_spec(serving, again):
    spec = load(serving)
    assert spec.resolved["scenario"] == "server"
    assert again(spec) == spec


def test_where_nothing_is_said_requests_come_one_by_one_and_old_runs_go_on(write):
    spec = load(write())
    assert spec.scenario == Scenario()
    assert "scenario" not in spec.resolved
    assert not any(name.startswith("server.") for name in names(spec))


def test_offline_keeps_the_batch_and_counts_samples(write):
    changes = {
        "scenario": "offline",
        "slo": ["throughput >= baseline"],
        "objectives": {"accuracy": "max", "throughput": "max"},
    }
    spec = load(write(), changes)
    assert spec.scenario == Scenario("offline")
    assert {p["batch"] for p in spec.space.grid().points} == {1, 8}
    assert spec.objectives == {"accuracy": "max", "throughput_per_s": "max"}


@pytest.mark.parametrize(
    ("changes", "cause", "remedy"),
    [
        ({"slo": ["accuracy >= 0.9"]}, "a limit on the p99 allows, and slo has none", "<= 5ms"),
        ({"slo": []}, "a limit on the p99 allows, and slo has none", "latency_p99 <= 5ms"),
        ({"slo": ["latency_p99 <= 0ms"]}, "no request takes 0 ms", "latency_p99 <= 5ms"),
        ({"slo": ["latency_p99 <= baseline"]}, "own highest rate alone", "server_rate, cost"),
        (
            {"slo": ["latency_p99 <= 5ms", "minimize latency_p50"]},
            "own highest rate alone",
            "server_rate, cost",
        ),
        ({"objectives": {"latency_p99": "min"}}, "own highest rate alone", "server_rate, cost"),
        ({"objectives": {"throughput": "max"}}, "does not measure throughput", "server_rate"),
        ({"space.batch": [1, 2]}, "makes the batches itself", "server: {max_batch"),
        ({"space.server.max_batch": 0}, "out of bounds", "at least 1"),
        ({"space.server.max_queue_delay_ms": -1.0}, "out of bounds", "at least 0"),
        ({"space.server.max_queue_delay_ms": "1ms"}, "expected a number", "max_queue_delay_ms: 0"),
        ({"space.server.max_batch": 1}, "'server.max_queue_delay_ms' applies only where", "remove"),
        ({"scenario": "single_stream"}, "the scenario is single_stream", "scenario: server"),
        ({"scenario": "sever"}, "unknown scenario 'sever'", "did you mean 'server'?"),
    ],
)
def test_what_a_server_cannot_mean_is_refused_with_a_remedy(serving, changes, cause, remedy):
    with pytest.raises(SpecError) as caught:
        load(serving, changes)
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
    assert caught.value.place


def test_a_rate_is_not_measured_one_by_one(write):
    with pytest.raises(SpecError, match="single_stream does not measure server_rate"):
        load(write("minimize cost", "maximize server_rate"))


def test_a_run_does_not_go_on_under_another_limit(serving, write):
    one, other = load(serving), load(serving, {"slo": ["latency_p99 <= 9ms"]})
    assert [c.split(":")[0] for c in differences(one.resolved, other.resolved)] == ["slo"]
    one, other = load(write()), load(write("latency_p99 <= 2ms", "latency_p99 <= 9ms"))
    assert differences(one.resolved, other.resolved) == []


def test_validate_lists_the_batcher_and_who_can_have_it(serving, write):
    own = {s.name: s for s in catalog(load(serving))}["server"]
    assert [(e.name, e.state) for e in own.entries] == [
        ("server.max_batch", "searched"),
        ("server.max_queue_delay_ms", "searched"),
    ]
    assert own.missing == ""
    assert own.entries[1].where == "server.max_batch is not 1"
    other = {s.name: s for s in catalog(load(write()))}["server"]
    assert other.missing == "it needs scenario: server"
