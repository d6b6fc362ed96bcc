"""What the report says of compression, from runs whose figures are made for it."""

import dataclasses
from pathlib import Path

import pytest

from autotune.report import render
from autotune.report.compression import alone, effects, gained
from autotune.report.words import Measure, change, shift
from autotune.runfolder import RunData, assemble
from autotune.space import Configuration
from autotune.trial import Completed, Estimate, Failed, Measurement, Trial
from report.example import example
from report.test_html import prose

SPEC = {"name": "made", "metrics": {"accuracy": {"metric": "top1", "direction": "max"}}}
GIVEN = {"student.width": 16, "prune.structure": "none", "precision": "fp32", "threads": 1}
PRUNED = {"prune.structure": "channel", "prune.ratio": 0.5, "prune.round_to": 8}
TUNED = {"finetune.epochs": 4}
SPARSE = {"prune.structure": "unstructured", "prune.ratio": 0.8, **TUNED}
INT8 = {"precision": "int8", "ptq.samples": 32}


def settings(backend="onnxruntime", batch=1, **more):
    return {**GIVEN, "backend": backend, "batch": batch, f"{backend}.level": "all", **more}


def values(p50=1.0, accuracy=0.99, parameters=1000.0, macs=5000.0, sparsity=0.0, size=4000.0):
    return {
        "accuracy": Estimate(accuracy),
        "latency_p50_ms": Estimate(p50, 0.99 * p50, 1.01 * p50),
        "size_bytes": Estimate(size),
        "parameters": Estimate(parameters),
        "macs": Estimate(macs),
        "sparsity": Estimate(sparsity),
    }


def made(*rows) -> RunData:
    """A run of a baseline and these (settings, values)."""
    first = ({**settings("torch"), "torch.freeze": False}, values(3.0))
    trials = tuple(
        Trial(
            number,
            Configuration(tuple(sorted(knobs.items()))),
            "sampler" if number else "baseline",
            Completed(Measurement(measured)),
        )
        for number, (knobs, measured) in enumerate((first, *rows))
    )
    return dataclasses.replace(assemble(Path("r"), SPEC, []), trials=trials)


def test_a_pruned_network_is_told_against_the_dense_one() -> None:
    small = values(0.62, accuracy=0.986, parameters=260.0, macs=1400.0, size=1100.0)
    run = made((settings(), values()), (settings(**PRUNED, **TUNED), small))
    (effect,) = effects(run)
    assert effect.setting == "prune channel, ratio 0.5"
    assert effect.place == "onnxruntime fp32, batch 1"
    assert (effect.trial, effect.sibling) == (2, 1)
    assert effect.parameters == pytest.approx(-0.74)
    assert effect.macs == pytest.approx(-0.72)
    assert effect.size == pytest.approx(-0.725)
    assert effect.accuracy == pytest.approx(-0.004)
    assert effect.latency is not None
    assert effect.latency.value == pytest.approx(0.62)
    assert effect.sentence == "1.61 times faster than the dense network; 0.40 points less accuracy."


@pytest.mark.parametrize("structure", ["unstructured", "2:4"])
def test_zeros_that_brought_no_speed_are_told_plainly(structure: str) -> None:
    zeros = settings(**{**SPARSE, "prune.structure": structure})
    run = made((settings(), values()), (zeros, values(1.01, sparsity=0.8)))
    (effect,) = effects(run)
    assert effect.sentence == (
        f"{structure.capitalize()} sparsity of 80 % brought no speed on onnxruntime: 1.01x the "
        "latency of the dense network; it runs zeros as any other weight; equal accuracy."
    )


def test_zeros_that_a_backend_makes_use_of_are_told_too() -> None:
    run = made((settings(), values()), (settings(**SPARSE), values(0.7, sparsity=0.8)))
    (effect,) = effects(run)
    assert "sparsity of 80 % brought speed on onnxruntime: 0.700x" in effect.sentence


def test_only_a_trial_that_is_equal_in_all_else_is_a_sibling() -> None:
    pruned = settings(**PRUNED, **TUNED)
    for other in (
        settings(batch=2),
        settings("openvino"),
        {**settings(), "onnxruntime.level": "basic"},
        {**settings(), "student.width": 8, "distill.epochs": 10},
        settings(**INT8),
    ):
        run = made((other, values()), (pruned, values(0.5)))
        assert not [e for e in effects(run) if e.setting.startswith("prune")]
        assert "prune channel, ratio 0.5" in alone(run)


def test_a_failed_trial_is_no_sibling() -> None:
    run = made((settings(), values()), (settings(**PRUNED), values(0.5)))
    broken = dataclasses.replace(run.trials[1], outcome=Failed("export", "an op it does not know"))
    run = dataclasses.replace(run, trials=(run.trials[0], broken, run.trials[2]))
    assert effects(run) == ()


def test_each_family_is_told_apart_from_the_others() -> None:
    both = settings(**PRUNED, **TUNED, **INT8)
    run = made(
        (settings(), values(1.0)),
        (settings(**INT8), values(0.5)),
        (settings(**PRUNED, **TUNED), values(0.6)),
        (both, values(0.35)),
    )
    found = {e.setting: e for e in effects(run)}
    assert set(found) == {"prune channel, ratio 0.5", "precision int8"}
    pruned, quantized = found["prune channel, ratio 0.5"], found["precision int8"]
    assert (pruned.trial, pruned.sibling) == (3, 1)  # the plain pair, not the quantized one
    assert (quantized.trial, quantized.sibling) == (2, 1)
    assert "2.00 times faster than fp32" in quantized.sentence
    assert "0.500x to 0.583x over 2 such pairs" in quantized.sentence
    assert "0.600x to 0.700x over 2 such pairs" in pruned.sentence


def test_quantization_aware_training_is_told_against_the_same_precision_without_it() -> None:
    trained = settings(**INT8, **{"qat.epochs": 3})
    run = made(
        (settings(), values(1.0)),
        (settings(**INT8, **{"qat.epochs": 0}), values(0.5, accuracy=0.98)),
        (trained, values(0.5, accuracy=0.987)),
    )
    found = {e.setting: e for e in effects(run)}
    assert (found["qat epochs 3"].trial, found["qat epochs 3"].sibling) == (3, 2)
    assert found["qat epochs 3"].accuracy == pytest.approx(0.007)
    assert (found["precision int8"].trial, found["precision int8"].sibling) == (2, 1)


def test_a_student_is_told_against_the_given_network() -> None:
    student = {**settings(), "student.width": 8, "distill.epochs": 10, "distill.alpha": 0.3}
    run = made((settings(), values()), (student, values(1.2)))
    (effect,) = effects(run)
    assert effect.setting == "student width 8"
    assert "Slower on onnxruntime: 1.20x the latency of the given network" in effect.sentence


def test_what_is_searched_names_a_setting_and_what_is_pinned_does_not() -> None:
    entropy = settings(**INT8, **{"ptq.method": "entropy"})
    minmax = settings(**INT8, **{"ptq.method": "minmax"})
    run = made((settings(), values()), (entropy, values(0.5)), (minmax, values(0.5)))
    assert [e.setting for e in effects(run)] == [
        "precision int8, entropy",
        "precision int8, minmax",
    ]


def test_an_older_run_without_sizes_tells_what_it_knows() -> None:
    def older(p50: float) -> dict[str, Estimate]:
        return {k: v for k, v in values(p50).items() if k in ("accuracy", "latency_p50_ms")}

    run = made((settings(), older(1.0)), (settings(**PRUNED), older(0.5)))
    (effect,) = effects(run)
    assert (effect.parameters, effect.macs, effect.size) == (None, None, None)
    assert "2.00 times faster" in effect.sentence
    assert "prune channel, ratio 0.5" in prose(render(run))


@pytest.mark.parametrize(
    ("ratio", "speed"),
    [
        (Estimate(0.9, 0.88, 0.92), True),
        (Estimate(0.9, 0.7, 1.1), False),
        (Estimate(0.985, 0.98, 0.99), False),
        (Estimate(0.9), True),
        (Estimate(1.1, 1.05, 1.2), False),
    ],
)
def test_speed_is_more_than_the_interval_and_two_percent(ratio: Estimate, speed: bool) -> None:
    assert gained(ratio) == speed


def test_the_interval_of_a_ratio_widens_with_both() -> None:
    run = made((settings(), values()), (settings(**PRUNED), values(0.5)))
    (effect,) = effects(run)
    assert effect.latency is not None
    assert effect.latency.low == pytest.approx(0.5 * (1 - 0.01 * 2**0.5), rel=1e-3)
    assert effect.latency.high == pytest.approx(0.5 * (1 + 0.01 * 2**0.5), rel=1e-3)


def test_a_run_that_compressed_nothing_has_no_such_section() -> None:
    assert "What compression did" not in prose(render(made((settings(), values()))))
    assert "What compression did" in prose(render(example(96)))


@pytest.mark.parametrize(
    ("share", "words"),
    [(None, "·"), (-0.741, "−74 %"), (0.004, "+0.4 %"), (0.0001, "same"), (1.5, "+150 %")],
)
def test_changes_in_words(share: float | None, words: str) -> None:
    assert change(share) == words


@pytest.mark.parametrize(
    ("moved", "unit", "words"),
    [
        (None, "fraction", "·"),
        (-0.004, "fraction", "−0.40 pt"),
        (0.0, "fraction", "same"),
        (1.5, "", "+1.50"),
    ],
)
def test_a_shift_of_a_metric_in_words(moved: float | None, unit: str, words: str) -> None:
    assert shift(moved, Measure("accuracy", "Accuracy", unit, "max")) == words
