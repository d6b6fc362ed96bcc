"""The space, the searcher and what trials report, without a Ray."""

import math
import random

import pytest
from ray import cloudpickle
from ray.tune.search import Searcher
from ray.tune.search.sample import Categorical, Float, Integer

from autotune.errors import Infeasible, UserError
from autotune.integrations import ray_tune
from autotune.integrations.ray_tune.reporting import outcome
from autotune.integrations.ray_tune.space import configuration
from autotune.search.starts import baselines, experts
from autotune.space import Choice, Configuration, Knob, Range
from autotune.spec import load
from autotune.trial import Completed, Estimate, Failed, Measurement, Rejected, Trial

OBJECTIVES = {"accuracy": "max", "latency_p50_ms": "min"}
POINT = Configuration((("batch", 1),))


def report(config, **more):
    """What our trainable would report of a trial that completed."""
    values = {"accuracy": 0.5, "latency_p50_ms": 1.0, "cost_usd_per_million": 1.0}
    return {"config": config, "outcome": "completed", "reason": "", **values, **more}


def finish(searcher, count):
    """Let ``count`` trials be suggested and end one after the other; their configurations."""
    found = []
    for number in range(count):
        config = searcher.suggest(f"t{number}")
        searcher.on_trial_complete(f"t{number}", report(config))
        found.append(config)
    return found


def active(config):
    return tuple(sorted((k, v) for k, v in config.items() if v is not None))


class TestSpace:
    def test_every_knob_is_sampled_within_its_domain(self, spec):
        space = ray_tune.search_space(spec)
        assert set(space) == {knob.name for knob in spec.space.knobs}
        for knob in spec.space.knobs:
            given = space[knob.name]
            for _ in range(5):
                assert knob.domain.contains(given.sample() if hasattr(given, "sample") else given)

    @pytest.mark.parametrize(
        ("domain", "kind"),
        [
            (Choice(("a", 1)), Categorical),
            (Range(0.0, 1.0), Float),
            (Range(1e-4, 1.0, log=True), Float),
            (Range(0.0, 1.0, step=0.25), Categorical),
            (Range(1, 4), Categorical),
            (Range(1, 100, log=True), Integer),
        ],
    )
    def test_each_kind_of_domain(self, spec, domain, kind):
        from dataclasses import replace

        from autotune.space import Space

        knob = Knob("x", domain)
        given = ray_tune.search_space(replace(spec, space=Space((knob,))))["x"]
        assert isinstance(given, kind)
        assert all(domain.contains(given.sample()) for _ in range(200))

    def test_inactive_knobs_make_no_difference(self, spec):
        point = spec.space.draw(random.Random(0))
        flat = {k: v.sample() if hasattr(v, "sample") else v for k, v in searched(spec).items()}
        assert configuration(spec, {**flat, **point}) == point

    def test_a_rejected_point_says_why(self, spec):
        point = {**spec.space.draw(random.Random(0)), "threads": 2}
        with pytest.raises(Infeasible, match="thread"):
            configuration(spec, point)

    def test_a_name_that_is_no_knob_is_refused(self, spec):
        point = spec.space.draw(random.Random(0))
        with pytest.raises(UserError, match="presicion"):
            configuration(spec, {**point, "presicion": "fp32"})

    def test_a_baseline_is_taken_as_it_is_outside_the_space(self, space_file):
        spec = load(space_file, {"space.backend": "onnxruntime", "space.threads": 1})
        first = baselines(spec)[0]
        assert first["backend"] == "torch"
        assert configuration(spec, first) == first


def searched(spec):
    return ray_tune.search_space(spec)


class TestSearcher:
    def test_baselines_then_experts_then_no_point_twice(self, sound):
        searcher = ray_tune.AutotuneSearcher(sound)
        expected = {p.key: p for p in (*baselines(sound), *experts(sound))}
        found = finish(searcher, 10)
        assert [active(c) for c in found[: len(expected)]] == [
            p.settings for p in expected.values()
        ]
        assert len({active(c) for c in found}) == 10

    def test_a_suggestion_has_every_knob(self, sound):
        config = ray_tune.AutotuneSearcher(sound).suggest("t0")
        assert {knob.name for knob in sound.space.knobs} <= set(config)

    def test_an_exhausted_space_finishes(self, sound):
        points = {p.key for p in (*sound.space.grid().points, *baselines(sound))}
        searcher = ray_tune.AutotuneSearcher(sound)
        found = finish(searcher, len(points))
        assert len({active(c) for c in found}) == len(points)
        assert searcher.suggest("last") == Searcher.FINISHED

    def test_it_waits_while_enough_are_in_flight(self, sound):
        searcher = ray_tune.AutotuneSearcher(sound, concurrent=2)
        first = searcher.suggest("a")
        assert searcher.suggest("b") is not None
        assert searcher.suggest("c") is None
        searcher.on_trial_complete("a", report(first))
        assert searcher.suggest("c") is not None

    def test_tunes_limit_of_concurrent_trials_holds(self, sound):
        searcher = ray_tune.AutotuneSearcher(sound)
        assert searcher.set_max_concurrency(1)
        searcher.suggest("a")
        assert searcher.suggest("b") is None

    def test_a_failure_enters_the_history_as_one(self, sound):
        searcher = ray_tune.AutotuneSearcher(sound)
        config = searcher.suggest("a")
        told = report(config, outcome="failed", reason="distill: it broke", accuracy=-math.inf)
        searcher.on_trial_result("a", told)
        searcher.on_trial_complete("a", error=True)
        assert searcher.history[0].outcome == Failed("distill", "it broke")

    def test_a_trial_that_ends_without_a_report_is_a_failure(self, sound):
        searcher = ray_tune.AutotuneSearcher(sound)
        searcher.suggest("a")
        searcher.on_trial_complete("a", error=True)
        assert searcher.history[0].outcome.reason == "ray tune: the trial ended without a report"

    @pytest.mark.parametrize("way", ["saved", "pickled"])
    def test_it_goes_on_where_it_was(self, sound, tmp_path, way):
        searcher = ray_tune.AutotuneSearcher(sound)
        finish(searcher, 5)
        running = searcher.suggest("running")
        if way == "saved":
            searcher.save(str(tmp_path / "state"))
            again = ray_tune.AutotuneSearcher(sound)
            again.restore(str(tmp_path / "state"))
        else:
            again = cloudpickle.loads(cloudpickle.dumps(searcher))
        assert again.history == searcher.history
        again.on_trial_complete("running", report(running))
        assert again.history[5].outcome.word == "completed"
        searcher.on_trial_complete("running", report(running))
        assert again.suggest("next") == searcher.suggest("next")

    def test_a_trial_begun_after_the_last_save_is_taken_up(self, sound):
        lost = ray_tune.AutotuneSearcher(sound).suggest("lost")
        again = ray_tune.AutotuneSearcher(sound)
        again.on_trial_complete("lost", report(lost))
        assert again.history[0].outcome.word == "completed"
        assert active(again.suggest("next")) != active(lost)


class TestReporting:
    def test_a_completed_trial_comes_back_with_its_intervals(self):
        values = {"accuracy": Estimate(0.9, 0.8, 0.95), "latency_p50_ms": Estimate(1.5)}
        ended = Completed(Measurement(values))
        told = ray_tune.row(Trial(0, POINT, "external", ended, {"export": 2.0}, ("export",)), {})
        assert told["accuracy_low"] == 0.8
        assert told["latency_p50_ms"] == 1.5
        assert "latency_p50_ms_low" not in told
        assert (told["stage_seconds"], told["executed"]) == (2.0, "export")
        assert outcome(told, OBJECTIVES) == ended

    @pytest.mark.parametrize("ended", [Failed("export", "a: b"), Rejected("no kernels")])
    def test_a_trial_without_a_value_has_the_worst_and_comes_back(self, ended):
        told = ray_tune.row(Trial(0, POINT, "external", ended), OBJECTIVES)
        assert told["outcome"] == ended.word
        assert told["reason"] == ended.reason
        assert (told["accuracy"], told["latency_p50_ms"]) == (-math.inf, math.inf)
        assert outcome(told, OBJECTIVES) == ended

    def test_a_foreign_report_needs_every_objective(self):
        assert outcome({"accuracy": 1.0, "latency_p50_ms": 2.0}, OBJECTIVES).word == "completed"
        lacking = outcome({"accuracy": 1.0, "latency_p50_ms": math.nan}, OBJECTIVES)
        assert "latency_p50_ms" in lacking.reason
