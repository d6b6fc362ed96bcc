"""The laws of the choice under limits."""

import math
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import NothingFits, UserError
from autotune.pick import NOT_SLOWER, SERVES, NothingMeets, Pick, pick
from autotune.slo import QUANTITIES, SLO, limit, parse
from autotune.space import Configuration
from autotune.trial import Completed, Estimate, Failed, Measurement, Stopped, Trial

METRICS = {"accuracy": "max"}
P50 = QUANTITIES["latency_p50"]


def trial(number, p50, *, origin="sampler", batch=1, **columns):
    """A completed trial; a column is a value or (value, low, high)."""
    given_ = {"latency_p50_ms": p50, "accuracy": 0.9, **columns}
    values = {
        name: Estimate(*value) if isinstance(value, tuple) else Estimate(value, value, value)
        for name, value in given_.items()
        if value is not None
    }
    point = Configuration((("backend", "torch"), ("batch", batch)))
    return Trial(number, point, origin, Completed(Measurement(values)))


def slo(*sentences):
    return parse([(sentence, "") for sentence in sentences], METRICS)


def chosen(trials, *sentences):
    return pick(trials, slo(*sentences), P50)


def missed(trials, *sentences):
    with pytest.raises(NothingMeets) as caught:
        chosen(trials, *sentences)
    return caught.value


def serves(number, rate, cost=None, *, origin="sampler", p99=4.0, accuracy=0.9):
    """A completed trial of a server; its p99 and p50 are those at its own rate."""
    columns = {"server_rate_per_s": rate, "latency_p99_ms": p99, "cost_usd_per_million": cost}
    return trial(number, 1.0 + number, origin=origin, accuracy=accuracy, **columns)


def test_a_server_is_fast_by_its_rate_whatever_its_p50():
    trials = [
        serves(0, 500.0, 0.2, origin="baseline", accuracy=0.8),
        serves(1, 1500.0, 0.07),
        serves(2, 400.0, 0.25, accuracy=0.99),
    ]
    found = chosen(trials, "latency_p99 <= 5ms", "maximize accuracy")
    assert (found.trial, found.figure, found.speedup) == (1, "server_rate", 3.0)
    assert found.checks[-1].column == "server_rate_per_s"
    assert found.checks[-1].detail == "1500 requests/s, limit 500 requests/s"


def test_who_serves_no_rate_is_not_picked_though_a_baseline_serves_none_either():
    trials = [serves(0, 0.0, origin="baseline", p99=9.0), serves(1, 0.0, p99=4.0)]
    error = missed(trials, "latency_p99 <= 5ms", "maximize server_rate")
    assert error.miss.trial == 1
    assert SERVES in [check.limit for check in error.miss.checks if not check.met]
    trials.append(serves(2, 50.0, 2.0))
    found = chosen(trials, "latency_p99 <= 5ms", "maximize server_rate")
    assert (found.trial, found.speedup) == (2, None)


def test_where_only_samples_a_second_are_measured_they_tell_the_speed():
    trials = [
        trial(0, None, origin="baseline", throughput_per_s=100.0, accuracy=0.8),
        trial(1, None, throughput_per_s=90.0, accuracy=0.99),
        trial(2, None, throughput_per_s=250.0),
    ]
    found = chosen(trials, "maximize accuracy")
    assert (found.trial, found.figure, found.speedup) == (2, "throughput", 2.5)


# ---- by hand -------------------------------------------------------------------------------------


def test_the_fastest_that_meets_the_limits():
    trials = [
        trial(0, 4.0, origin="baseline", accuracy=0.99),
        trial(1, 1.0, accuracy=0.95),
        trial(2, 2.0, accuracy=0.98),
        trial(3, 3.0, accuracy=0.99),
    ]
    found = chosen(trials, "accuracy >= baseline - 1pt")
    assert (found.trial, found.objective, found.value) == (2, "latency_p50", 2.0)
    assert (found.baseline, found.speedup) == (0, 2.0)
    assert [check.limit for check in found.checks] == ["accuracy >= baseline - 1pt", NOT_SLOWER]
    assert all(check.met for check in found.checks)
    assert found.checks[0].value == 0.98
    assert found.checks[0].bound == pytest.approx(0.98)


def test_the_objective_of_the_slo_comes_before_the_default():
    trials = [trial(0, 1.0, size_bytes=2e6), trial(1, 2.0, size_bytes=1e6)]
    assert chosen(trials).trial == 0
    assert chosen(trials, "minimize size").trial == 1
    assert chosen(trials, "minimize size").value == 1e6
    assert chosen(trials, "maximize accuracy").trial == 0


def test_only_completed_trials_are_candidates():
    lost = [replace(trial(n, 0.1), outcome=o) for n, o in ((0, None), (1, Failed("a", "b")))]
    stopped = replace(trial(2, 0.1), outcome=Stopped("dominated"))
    assert chosen([*lost, stopped, trial(3, 1.0)]).trial == 3
    error = missed([*lost, stopped])
    assert error.miss is None
    assert "no trial was completed" in str(error)


def test_a_latency_is_held_against_its_limit_by_its_upper_bound():
    trials = [trial(0, 1.0, latency_p99_ms=(1.9, 1.8, 2.1)), trial(1, 1.5, latency_p99_ms=1.9)]
    found = chosen(trials, "latency_p99 <= 2ms")
    assert (found.trial, found.checks[0].value) == (1, 1.9)


def test_a_p99_without_an_upper_bound_is_unknown_and_not_met():
    error = missed([trial(0, 1.0, latency_p99_ms=(1.5, 1.2, None))], "latency_p99 <= 2ms")
    (check,) = error.miss.checks
    assert (check.met, check.value, error.miss.violation) == (False, None, 0.0)
    assert "unknown: too few samples" in check.detail
    assert "1.5 ms was seen" in str(error)


def test_a_p99_without_an_upper_bound_that_is_seen_above_the_limit_is_missed():
    error = missed([trial(0, 1.0, latency_p99_ms=(3.0, 2.5, None))], "latency_p99 <= 2ms")
    (check,) = error.miss.checks
    assert (check.met, check.value, error.miss.violation) == (False, None, 0.5)
    assert check.detail == "3 ms was seen, limit 2 ms: missed by 1 ms (50.0%)"


def test_what_was_not_measured_is_not_met():
    error = missed([trial(0, 1.0)], "size <= 1MB")
    assert error.miss.checks[0].value is None
    assert error.miss.violation == math.inf
    assert "size was not measured" in str(error)


def test_slower_than_the_baseline_at_the_same_batch_is_out():
    trials = [
        trial(0, 2.0, origin="baseline", batch=1, accuracy=0.9),
        trial(1, 8.0, origin="baseline", batch=8, accuracy=0.9),
        trial(2, 3.0, batch=1, accuracy=0.99),
        trial(3, 7.0, batch=8, accuracy=0.98),
    ]
    found = chosen(trials, "maximize accuracy")
    assert (found.trial, found.baseline) == (3, 1)
    assert found.speedup == pytest.approx(8 / 7)


def test_a_batch_whose_baseline_was_not_measured_cannot_be_called_faster():
    trials = [
        trial(0, 1.0, origin="baseline", batch=1, accuracy=0.9),
        trial(1, 0.5, batch=8, accuracy=0.95),
    ]
    error = missed(trials, "accuracy >= baseline + 2pt")
    assert error.miss.trial == 0
    assert chosen(trials, "maximize accuracy").trial == 0


def test_where_no_baseline_was_measured_at_all_none_is_asked_for():
    assert chosen([trial(1, 9.0, batch=8)], "maximize accuracy").trial == 1


def test_a_baseline_of_another_target_says_nothing_about_speed():
    def on(target, t):
        point = Configuration((*t.configuration.settings, ("target", target)))
        return replace(t, configuration=point)

    trials = [on("edge", trial(0, 1.0, origin="baseline")), on("server", trial(1, 2.0))]
    assert chosen(trials, "maximize accuracy").baseline == 0
    elsewhere = [trials[0], on("server", trial(1, 0.5, accuracy=0.99))]
    assert chosen(elsewhere, "maximize accuracy").trial == 0


def test_the_accuracy_limit_uses_the_baseline_of_the_same_batch():
    trials = [
        trial(0, 1.0, origin="baseline", batch=1, accuracy=0.99),
        trial(1, 8.0, origin="baseline", batch=8, accuracy=0.95),
        trial(2, 4.0, batch=8, accuracy=0.95),
    ]
    found = chosen(trials[1:], "accuracy >= baseline")
    assert (found.trial, [check.bound for check in found.checks]) == (2, [0.95, 8.0])
    error = missed([trials[0], trials[2]], "accuracy >= baseline", "latency_p50 <= 0.5ms")
    assert {check.bound for check in error.miss.checks} == {0.99, 0.5}


def test_the_baseline_may_be_the_answer():
    found = chosen([trial(0, 1.0, origin="baseline"), trial(1, 2.0)])
    assert (found.trial, found.speedup) == (0, 1.0)


def test_without_a_baseline_a_relative_limit_cannot_be_met():
    error = missed([trial(0, 1.0)], "accuracy >= baseline - 1pt")
    assert "the baseline's accuracy was not measured" in str(error)
    assert math.isnan(error.miss.checks[0].bound)


def test_equal_values_are_ordered_by_p50_then_by_number():
    trials = [trial(2, 1.0, size_bytes=1.0), trial(0, 2.0, size_bytes=1.0)]
    assert chosen(trials, "minimize size").trial == 2
    assert chosen([trial(2, 1.0), trial(1, 1.0)]).trial == 1


def test_latencies_within_each_others_intervals_are_ordered_by_p50():
    near = [
        trial(0, 1.2, latency_p99_ms=(2.0, 1.8, 2.3)),
        trial(1, 1.0, latency_p99_ms=(2.2, 1.9, 2.4)),
    ]
    far = trial(2, 0.5, latency_p99_ms=(2.5, 1.9, 2.6))
    assert chosen([*near, far], "minimize latency_p99").trial == 1
    assert chosen([near[0], far], "minimize latency_p99").trial == 0


def test_an_objective_that_nobody_measured_is_an_error_with_a_remedy():
    with pytest.raises(UserError, match="price_per_hour"):
        chosen([trial(0, 1.0)], "minimize cost")


def test_bounds_are_compared_up_to_rounding():
    assert 0.2 - 0.02 > 0.18
    trials = [trial(0, 1.0, origin="baseline", accuracy=0.2), trial(1, 0.5, accuracy=0.18)]
    assert chosen(trials, "accuracy >= baseline - 2pt").trial == 1


def test_the_nearest_miss_is_told_with_its_values_and_what_it_lacks():
    trials = [
        trial(0, 5.0, origin="baseline", accuracy=0.99, latency_p99_ms=5.0),
        trial(1, 2.0, accuracy=0.97, latency_p99_ms=(2.2, 2.1, 2.4)),
        trial(2, 1.0, accuracy=0.5, latency_p99_ms=1.0),
    ]
    error = missed(trials, "latency_p99 <= 2ms", "accuracy >= baseline - 1pt")
    assert isinstance(error, NothingFits)
    assert error.miss.trial == 1
    assert error.miss.violation == pytest.approx(0.2)
    text = str(error)
    assert "trial 1 comes nearest" in text
    assert "backend=torch, batch=1" in text
    assert "2.4 ms (95 % upper bound), limit 2 ms: missed by 0.4 ms (20.0%)" in text
    assert "0.97, limit 0.98: missed by 1 points (1.0%)" in text
    assert f"met     {NOT_SLOWER}: 2 ms, limit 5 ms" in text


def test_the_miss_survives_the_way_between_processes():
    error = missed([trial(0, 3.0)], "latency_p50 <= 2ms")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.miss == error.miss


# ---- laws ----------------------------------------------------------------------------------------

POSITIVE = st.integers(1, 8).map(lambda n: n / 2)


@st.composite
def estimates(draw, value):
    down, up = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    return (value, value - down / 8, draw(st.sampled_from([value + up / 8] * 3 + [None])))


@st.composite
def runs(draw):
    """A few trials over small whole numbers, so that ties and misses are frequent."""
    trials = []
    for number in range(draw(st.integers(1, 7))):
        p50, p99 = draw(POSITIVE), draw(POSITIVE)
        trials.append(
            trial(
                number,
                draw(estimates(p50)),
                origin=draw(st.sampled_from(["baseline", "sampler", "expert"])),
                batch=draw(st.sampled_from([1, 2])),
                accuracy=draw(st.integers(90, 99)) / 100,
                latency_p99_ms=draw(estimates(p50 + p99)),
                size_bytes=draw(st.sampled_from([1e6, 2e6, 3e6])),
            )
        )
    return trials


@st.composite
def limits(draw):
    sentences = [
        f"latency_p50 <= {draw(POSITIVE)}ms",
        f"latency_p99 <= {2 * draw(POSITIVE)}ms",
        f"accuracy >= {draw(st.integers(90, 99))}%",
        f"size <= {draw(st.integers(1, 3))}MB",
    ]
    return draw(st.lists(st.sampled_from(sentences), unique=True, max_size=3))


def meets(t, sentences, trials):
    """The definition, written once more and plainly."""
    for sentence in sentences:
        one = limit(sentence, METRICS)
        estimate = t.measurement.values[one.quantity.column]
        held = estimate.high if one.quantity.word.startswith("latency") else estimate.value
        slack = 1e-9 * one.bound  # 94% is 0.9400000000000001
        if held is None or (held > one.bound + slack if one.at_most else held < one.bound - slack):
            return False
    base = [b for b in trials if b.origin == "baseline" and b.configuration == t.configuration]
    if t.origin == "baseline" or not any(b.origin == "baseline" for b in trials):
        return True
    if not base:
        return False
    return t.measurement["latency_p50_ms"] <= base[0].measurement["latency_p50_ms"]


def answer(trials, sentences, objective):
    """The pick, or the error that says why there is none."""
    try:
        return pick(trials, SLO(slo(*sentences).limits, objective), P50)
    except NothingMeets as error:
        return error


EXACT = st.sampled_from(
    [P50, QUANTITIES["size"], slo("maximize accuracy").objective],
)


@given(runs(), limits(), EXACT)
def test_the_pick_meets_every_limit_and_none_that_does_is_better(trials, sentences, objective):
    fit = [t for t in trials if meets(t, sentences, trials)]
    found = answer(trials, sentences, objective)
    assert isinstance(found, Pick) == bool(fit)
    if fit:
        assert found.trial in {t.number for t in fit}
        assert all(check.met for check in found.checks)
        best = max if objective.direction == "max" else min
        assert found.value == best(t.measurement[objective.column] for t in fit)


@given(runs(), limits())
def test_a_pick_by_p99_cannot_be_told_from_the_best(trials, sentences):
    objective = QUANTITIES["latency_p99"]
    found = answer(trials, sentences, objective)
    if isinstance(found, Pick):
        fit = [t.measurement.values for t in trials if meets(t, sentences, trials)]
        best = min((v["latency_p99_ms"] for v in fit), key=lambda e: e.value)
        own = trials[found.trial].measurement.values["latency_p99_ms"]
        assert own.low <= best.value <= own.value
        ties = [e for v in fit if (e := v["latency_p99_ms"]).value == best.value]
        assert any(found.value <= max(e.high or e.value, e.value) for e in ties)


@given(runs(), limits(), EXACT, st.data())
def test_loosening_a_limit_never_worsens_the_objective(trials, sentences, objective, data):
    before = answer(trials, sentences, objective)
    loose = data.draw(st.sampled_from(sentences)) if sentences else ""
    after = answer(trials, [s for s in sentences if s != loose], objective)
    if isinstance(before, Pick):
        assert isinstance(after, Pick)
        assert (after.value - before.value) * (1 if objective.direction == "max" else -1) >= 0


@given(runs(), limits())
def test_the_nearest_miss_lacks_no_more_than_any_other(trials, sentences):
    error = answer(trials, sentences, P50)
    if isinstance(error, NothingMeets):
        assert not all(check.met for check in error.miss.checks)
        for t in trials:
            few = [other for other in trials if other.origin == "baseline" or other is t]
            assert error.miss.violation <= answer(few, sentences, P50).miss.violation


def noisy(trial):
    """The same, measured beside a busy process."""
    facts = {
        "noisy": True,
        "blocks": 48,
        "disturbed_blocks": 46,
        "run_queue_share": 0.507,
        "reference_ratio": 1.02,
    }
    return replace(trial, outcome=Completed(replace(trial.measurement, facts=facts)))


def test_a_speed_up_over_a_baseline_that_was_disturbed_carries_a_warning():
    given_, fast = trial(0, 140.0, origin="baseline"), trial(1, 3.7)
    found = chosen([noisy(given_), fast])
    assert found.speedup == pytest.approx(140 / 3.7)
    (warning,) = found.warnings
    assert warning.startswith("the baseline, trial 0, was measured while something else ran")
    for figure in ("46 of 48 blocks", "51%", "1.02 times"):
        assert figure in warning
    assert chosen([given_, fast]).warnings == ()


def test_a_pick_that_was_disturbed_carries_a_warning_once():
    given_, fast = trial(0, 5.0, origin="baseline"), trial(1, 3.7)
    assert [w[:8] for w in chosen([given_, noisy(fast)]).warnings] == ["trial 1,"]
    assert len(chosen([noisy(given_), noisy(fast)]).warnings) == 2
    assert len(chosen([noisy(given_)]).warnings) == 1


def test_a_record_without_the_figures_is_doubted_all_the_same():
    fast = trial(1, 3.7)
    bare = replace(fast, outcome=Completed(replace(fast.measurement, facts={"noisy": True})))
    assert len(chosen([bare]).warnings) == 1
