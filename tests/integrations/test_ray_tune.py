"""Sweeps by ``tune.Tuner`` on a real Ray, with real stages."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from ray import tune
from ray.tune.search import BasicVariantGenerator

from autotune.engine.quiet import quiet
from autotune.integrations import ray_tune
from autotune.store.artifacts import Store

pytestmark = pytest.mark.slow

COLUMNS = {"outcome", "reason", "accuracy", "accuracy_low", "accuracy_drop", "latency_p50_ms"} | {
    "latency_p50_ms_low",
    "latency_p99_ms",
    "throughput_per_s",
    "cost_usd_per_million",
    "size_bytes",
    "stage_seconds",
}


class Ended(tune.Callback):
    """Counts what Tune tells its callbacks."""

    def __init__(self):
        self.told = Counter()

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.told["complete"] += 1

    def on_trial_error(self, iteration, trials, trial, **info):
        self.told["error"] += 1


def fit(trainable, folder, name, callback, config, space=None):
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=config,
        run_config=tune.RunConfig(
            name=name, storage_path=str(folder), verbose=0, callbacks=[callback]
        ),
    )
    with quiet():
        return tuner.fit()


@pytest.fixture(scope="module")
def sweeps(spec, sound, tmp_path_factory):
    """Eight trials by our searcher, and three chosen points by Tune's own; the folder of both."""
    folder = tmp_path_factory.mktemp("tune")
    ours, flat = Ended(), Ended()
    sampled = ray_tune.search_space(spec)
    first = {"batch": 1, "threads": 1, "backend": "onnxruntime", "student.width": 16}
    points = [
        {**first, "onnxruntime.level": "all", "torch.freeze": True},
        {**first, "threads": 2},
        {**first, "student.width": 5},
    ]
    with ray_tune.trainable(spec, folder / "store") as trainable:
        searcher = ray_tune.AutotuneSearcher(sound)
        config = tune.TuneConfig(search_alg=searcher, num_samples=8, reuse_actors=True)
        grid = fit(trainable, folder, "ours", ours, config, ray_tune.search_space(sound))
        variants = BasicVariantGenerator(points_to_evaluate=points, max_concurrent=3)
        config = tune.TuneConfig(search_alg=variants, num_samples=3)
        other = fit(trainable, folder, "flat", flat, config, sampled)
    return folder, searcher, grid, ours, other, flat


class TestOurSearcher:
    def test_eight_trials_of_eight_configurations(self, sweeps):
        _, searcher, grid, ours, *_ = sweeps
        table = grid.get_dataframe()
        assert list(table["outcome"]) == ["completed"] * 8
        assert table["configuration"].nunique() == 8
        assert ours.told == {"complete": 8}
        assert grid.num_errors == 0
        assert [t.outcome.word for t in searcher.history] == ["completed"] * 8

    def test_the_columns_are_measured(self, sweeps):
        table = sweeps[2].get_dataframe()
        assert set(table) >= COLUMNS
        assert (table["latency_p50_ms"] > 0).all()
        assert table["accuracy"].between(0, 1).all()
        assert table["accuracy"].max() > 0.9

    def test_shared_stages_run_once(self, sweeps):
        folder, _, grid, *_ = sweeps
        ran = Counter(",".join(r.metrics["executed"] for r in grid).split(","))
        students = {r.config["student.width"] for r in grid}
        assert ran["distill"] == len(students - {16}) == 1
        assert ran["latency"] == 8
        made = stages(folder, "distill")
        assert len(made) == 1

    def test_measuring_is_never_beside_measuring(self, sweeps):
        """The lane's stages, from the end of each and how long it took, follow each other."""
        measured = stages(sweeps[0], "latency")
        spans = sorted((end - seconds, end) for end, seconds in measured)
        assert len(spans) >= 8
        for (_, end), (start, _) in pairwise(spans):
            assert start > end - 0.02

    def test_it_is_read_back_from_the_storage(self, sweeps):
        folder, _, grid, *_ = sweeps

        def autotune(config):
            raise AssertionError("a finished trial ran again")

        with quiet():
            again = tune.Tuner.restore(str(folder / "ours"), trainable=autotune).get_results()
        assert {r.metrics["latency_p50_ms"] for r in again} == {
            r.metrics["latency_p50_ms"] for r in grid
        }
        best = again.get_best_result("latency_p50_ms", "min")
        assert best.metrics["latency_p50_ms"] == min(r.metrics["latency_p50_ms"] for r in grid)


class TestTunesOwnSearch:
    @pytest.fixture
    def by_outcome(self, sweeps):
        return {r.metrics["outcome"]: r for r in sweeps[4]}

    def test_each_point_ends_in_its_own_way(self, sweeps, by_outcome):
        assert set(by_outcome) == {"completed", "rejected", "failed"}
        assert sweeps[5].told == {"complete": 2, "error": 1}

    def test_what_an_earlier_sweep_measured_is_not_measured_again(self, sweeps, by_outcome):
        known = {r.metrics["configuration"]: r.metrics["latency_p50_ms"] for r in sweeps[2]}
        found = by_outcome["completed"].metrics
        assert known[found["configuration"]] == found["latency_p50_ms"]
        assert found["executed"] == ""

    def test_a_rejected_point_is_reported_with_its_reason(self, by_outcome):
        told = by_outcome["rejected"].metrics
        assert "thread" in told["reason"]
        assert (told["latency_p50_ms"], told["accuracy"]) == (math.inf, -math.inf)
        assert by_outcome["rejected"].error is None

    def test_a_failed_trial_is_an_error_with_its_reason(self, sweeps, by_outcome):
        told = by_outcome["failed"]
        assert "five is refused" in told.metrics["reason"]
        assert told.metrics["latency_p50_ms"] == math.inf
        assert "five is refused" in str(told.error)
        best = sweeps[4].get_best_result("latency_p50_ms", "min")
        assert best.metrics["outcome"] == "completed"


def stages(folder, name):
    """When each artifact of a stage was committed, and the seconds it took."""
    store = Store(folder / "store")
    found = []
    for key in store.keys():  # noqa: SIM118 - a store is no dict
        meta = store.meta(key)
        if meta["stage"] == name:
            written = (store.open(key) / "meta.json").stat().st_mtime
            found.append((written, meta["seconds"]))
    return found
