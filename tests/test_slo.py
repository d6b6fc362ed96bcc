"""Every sentence of an SLO, and every way to get one wrong."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import SpecError
from autotune.slo import QUANTITIES, limit, parse, quantity, sensible

METRICS = {"accuracy": "max", "wer": "min"}


@pytest.mark.parametrize(
    ("sentence", "column", "at_most", "bound"),
    [
        ("latency_p99 <= 2ms", "latency_p99_ms", True, 2.0),
        ("latency_p99<=2 ms", "latency_p99_ms", True, 2.0),
        ("  latency_p50 < 1.5MS ", "latency_p50_ms", True, 1.5),
        ("latency_p90 <= 250us", "latency_p90_ms", True, 0.25),
        ("latency_p50 <= .5s", "latency_p50_ms", True, 500.0),
        ("latency_p50 <= 1e-3s", "latency_p50_ms", True, 1.0),
        ("throughput >= 100", "throughput_per_s", False, 100.0),
        ("throughput > 100/s", "throughput_per_s", False, 100.0),
        ("cost <= 0.5", "cost_usd_per_million", True, 0.5),
        ("cost <= 2 usd", "cost_usd_per_million", True, 2.0),
        ("cost <= 2$", "cost_usd_per_million", True, 2.0),
        ("size <= 3MB", "size_bytes", True, 3e6),
        ("size <= 1 KiB", "size_bytes", True, 1024.0),
        ("accuracy >= 0.97", "accuracy", False, 0.97),
        ("accuracy >= 97%", "accuracy", False, 0.97),
        ("accuracy >= 97pt", "accuracy", False, 0.97),
        ("wer <= 5%", "wer", True, 0.05),
    ],
)
def test_a_limit_is_a_number_in_the_unit_of_its_column(sentence, column, at_most, bound):
    found = limit(sentence, METRICS)
    assert (found.quantity.column, found.at_most, found.relative) == (column, at_most, "")
    assert found.bound == pytest.approx(bound)
    assert found.value(None) == found.bound
    assert found.text == sentence


@pytest.mark.parametrize(
    ("sentence", "relative", "value"),
    [
        ("accuracy >= baseline", "points", 0.9),
        ("accuracy >= baseline - 1pt", "points", 0.89),
        ("accuracy >= baseline-1pt", "points", 0.89),
        ("accuracy >= baseline - 1%", "points", 0.89),
        ("accuracy >= baseline - 0.01", "points", 0.89),
        ("accuracy >= baseline + 1pt", "points", 0.91),
        ("accuracy >= baseline - 1% of baseline", "share", 0.891),
        ("accuracy >= baseline + 1 % of baseline", "share", 0.909),
        ("wer <= baseline + 2pt", "points", 0.92),
    ],
)
def test_a_limit_may_hang_on_the_baseline(sentence, relative, value):
    found = limit(sentence, METRICS)
    assert found.relative == relative
    assert found.value(0.9) == pytest.approx(value)


def test_a_latency_may_hang_on_the_baseline_too():
    assert limit("latency_p50 <= baseline - 500us", {}).value(2.0) == pytest.approx(1.5)
    assert limit("latency_p50 <= baseline - 50% of baseline", {}).value(2.0) == pytest.approx(1.0)


def test_without_a_baseline_a_relative_limit_has_no_value():
    with pytest.raises(ValueError, match="'accuracy >= baseline' hangs on the baseline"):
        limit("accuracy >= baseline", METRICS).value(None)


@pytest.mark.parametrize(
    ("sentence", "cause", "remedy"),
    [
        ("latency_p99 = 2ms", "is not a limit", "latency_p99 <= 2ms"),
        ("latency_p99", "is not a limit", "latency_p99 <= 2ms"),
        ("minimize", "is not a limit", "latency_p99 <= 2ms"),
        ("", "is not a limit", "latency_p99 <= 2ms"),
        ("latency_p99 >= 2ms", "on its good side", "write 'latency_p99 <= ...'"),
        ("accuracy <= baseline", "on its good side", "write 'accuracy >= ...'"),
        ("latency <= 2ms", "nothing called 'latency' is measured", "latency_p99"),
        ("top1 >= 0.9", "nothing called 'top1' is measured", "accuracy, wer, latency_p50"),
        ("latency_p99 <= 2", "a number without a unit", "ms, us, s"),
        ("latency_p99 <= 2min", "unit 'min'", "write it in ms, us, s"),
        ("latency_p99 <= baseline - 1%", "unit '%'", "write it in ms, us, s"),
        ("size <= 3", "a number without a unit", "kib"),
        ("accuracy >= 0.9ms", "unit 'ms'", "write it in pt, %"),
        ("accuracy >= high", "'high' is not an amount of accuracy", "baseline - 1pt"),
        ("accuracy >= -0.1", "'-0.1' is not an amount", "baseline - 1pt"),
        ("accuracy >= 1% of baseline", "'1% of baseline' is not an amount", "baseline - 1pt"),
        ("accuracy >= baseline -", "is not an amount", "baseline - 1pt"),
        ("accuracy >= baseline * 2", "is not an amount", "baseline - 1pt"),
        ("latency_p99 <= nan", "is not an amount", "latency_p99 <= 2ms"),
        ("latency_p99 <= 1e400ms", "is too large", "latency_p99 <= 2ms"),
    ],
)
def test_what_says_no_limit_is_refused_with_place_cause_and_remedy(sentence, cause, remedy):
    with pytest.raises(SpecError) as caught:
        limit(sentence, METRICS, "space.yaml:7: slo")
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
    assert caught.value.place == "space.yaml:7: slo"


def test_sentences_become_limits_and_one_objective():
    sentences = ["latency_p99 <= 2ms", "accuracy >= baseline - 1pt", "minimize cost"]
    slo = parse([(s, "") for s in sentences], METRICS)
    assert [found.text for found in slo.limits] == sentences[:2]
    assert slo.objective == QUANTITIES["cost"]
    assert parse([], METRICS).objective is None


@pytest.mark.parametrize("sentence", ["maximize accuracy", "minimize wer", "maximize throughput"])
def test_an_objective_is_a_quantity_in_its_better_direction(sentence):
    word = sentence.split()[1]
    assert parse([(sentence, "")], METRICS).objective == quantity(word, METRICS)


@pytest.mark.parametrize(
    ("sentences", "cause", "remedy"),
    [
        (["maximize cost"], "asks for a worse cost", "'minimize cost'"),
        (["minimize accuracy"], "asks for a worse accuracy", "'maximize accuracy'"),
        (["minimize speed"], "nothing called 'speed' is measured", "throughput"),
        (["minimize cost", "minimize size"], "a second objective", "keep one"),
    ],
)
def test_a_wrong_objective_is_refused(sentences, cause, remedy):
    with pytest.raises(SpecError) as caught:
        parse([(s, "space.yaml:9: slo") for s in sentences], METRICS)
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
    assert caught.value.place == "space.yaml:9: slo"


def test_a_metric_comes_before_a_quantity_of_the_same_name():
    assert quantity("cost", {"cost": "max"}).direction == "max"
    assert quantity("speed", METRICS) is None


@given(
    st.sampled_from(sorted(QUANTITIES)),
    st.floats(1e-6, 1e6),
    st.data(),
)
def test_an_amount_is_its_number_times_its_unit(word, amount, data):
    of = QUANTITIES[word]
    unit = data.draw(st.sampled_from(sorted(of.units)))
    sign = "<=" if of.direction == "min" else ">="
    found = limit(f"{word} {sign} {amount!r}{unit}", {})
    assert math.isclose(found.bound, amount * of.units[unit])


@pytest.mark.parametrize(
    ("sentence", "cause", "remedy"),
    [
        ("accuracy >= baseline - 1", "1 without a unit is 100 points of accuracy", "write 1pt"),
        ("accuracy >= baseline - 0.5", "0.5 without a unit is 50 points", "50pt where not"),
        ("accuracy >= 98", "98 without a unit is more than accuracy can be", "write 98%"),
    ],
)
def test_a_share_that_was_meant_as_points_is_refused(sentence, cause, remedy):
    slo = parse([(sentence, "--limit")], METRICS)
    with pytest.raises(SpecError) as caught:
        sensible(slo, {"accuracy"}, {sentence: "--limit"})
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
    assert caught.value.place == "--limit"
    sensible(slo, set(), {})  # of a metric with another range it is as it says


@pytest.mark.parametrize(
    "sentence",
    [
        "accuracy >= baseline - 1pt",
        "accuracy >= baseline - 50%",
        "accuracy >= baseline - 1% of baseline",
        "accuracy >= baseline - 0.01",
        "accuracy >= baseline",
        "accuracy >= 0.98",
        "accuracy >= 98%",
        "latency_p99 <= 2ms",
        "throughput >= 100",
    ],
)
def test_what_can_only_mean_one_thing_is_taken(sentence):
    sensible(parse([(sentence, "")], METRICS), {"accuracy"}, {})
