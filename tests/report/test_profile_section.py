"""Where the time goes, in the report: what is compared, what is said, nothing read as markup."""

import dataclasses

import pytest

from autotune.profile import Operation, Profile
from autotune.report import render
from autotune.report.profile import AROUND, chart, family, measured, sentences, sides, told
from autotune.report.words import number
from autotune.roofline import PEAKS, floor_ms
from autotune.runfolder import RunData, assemble
from autotune.runfolder.profiles import compared
from autotune.trial import Completed, Estimate
from report.example import SPEC, events, example
from report.test_html import EVIL, data, picked, prose

GIVEN = Profile(
    (
        Operation("aten::conv2d", "1x3x8x8", "fp32", 0.6, 3),
        Operation("aten::batch_norm", "", "fp32", 0.2, 3),
        Operation("aten::relu", "", "fp32", 0.1, 3),
    ),
    wall_ms=1.2,
    requests=50,
    bare_ms=1.0,
)
BEST = Profile(
    (
        Operation("QLinearConv", "first", "int8", 0.05),
        Operation("QLinearConv", "second", "int8", 0.03),
        Operation("Conv", "third", "fp32", 0.02),
        Operation("QuantizeLinear", "in", "fp32 to int8", 0.01),
    ),
    wall_ms=0.15,
    requests=100,
    bare_ms=0.1,
)


def profiled(given: Profile = GIVEN, best: Profile = BEST) -> RunData:
    run = picked(example())
    assert run.pick is not None
    told = [*events(pick=run.pick["trial"])]
    for trial, profile in zip(compared(run), (given, best), strict=True):
        told.append({"event": "profile", "number": trial.number, "profile": profile.record()})
    return picked(assemble(run.folder, SPEC, told))


def test_the_baselines_operators_stand_beside_the_picks() -> None:
    drawn = chart(sides(profiled()))
    assert drawn is not None
    assert drawn["families"] == [
        "convolution",
        "normalisation",
        "activation",
        "conversion and layout",
        AROUND,
    ]
    given, best = drawn["sides"]
    assert given["title"].startswith("The model as given: torch fp32 (trial ")
    assert best["title"].startswith("The pick: ")
    assert given["ms"] == pytest.approx([0.6, 0.2, 0.1, 0.0, 0.1])
    assert best["ms"] == pytest.approx([0.1, 0.0, 0.0, 0.01, 0.0])
    assert best["label"][:2] == ["0.100 ms  int8, fp32", "none"]
    assert best["about"][0] == [
        "QLinearConv int8: 0.0800 ms, 2 calls",
        "Conv fp32: 0.0200 ms",
    ]


def test_the_page_tells_the_figures_and_what_the_profiler_did_to_them() -> None:
    text = prose(render(profiled()))
    assert "Where the time goes" in text
    assert "operators add up to 0.900 ms of a request that takes 1.20 ms under the profiler" in text
    assert "QLinearConv int8 2 0.0800 72.7 %" in text
    assert data(render(profiled()))["profile"] == chart(sides(profiled()))


def test_a_run_without_profiles_has_no_such_section() -> None:
    page = render(picked(example()))
    assert "Where the time goes" not in prose(page)
    assert data(page)["profile"] is None


def test_why_there_is_no_profile_is_told() -> None:
    run = picked(example())
    number = compared(run)[-1].number
    failed = {"event": "profile", "number": number, "error": "the process crashed"}
    assert run.pick is not None
    run = picked(assemble(run.folder, SPEC, [*events(pick=run.pick["trial"]), failed]))
    assert f"Trial {number} could not be profiled: the process crashed" in prose(render(run))


def test_what_a_profiler_tells_is_never_read_as_markup() -> None:
    evil = Profile((Operation(EVIL, EVIL, EVIL, 0.5),), 0.6, 10, bare_ms=0.4)
    page = render(profiled(evil, evil))
    assert "<img" not in page
    assert EVIL.split("\u2028")[0] in prose(page)


def test_a_machine_that_went_at_another_speed_or_did_something_else_is_told() -> None:
    told = sentences(GIVEN, 0.8)
    assert told[1].startswith("Without the profiler it takes 1.00 ms (p50, just before; its trial")
    assert "under it 20 % more" in told[1]
    assert "25 % slower than when the trial was measured" in told[2]
    assert len(sentences(GIVEN, 1.0)) == 2
    busy = Profile(GIVEN.rows, 1.2, 50, bare_ms=1.0, waited=0.4)
    assert "for 40 % of its time the process waited for a core" in sentences(busy)[-1]


def test_a_profiler_that_counts_too_coarsely_is_told() -> None:
    told = sentences(Profile((), 0.13, 200, bare_ms=0.01))
    assert told[0].startswith("The profiler tells no operator: each takes less than it counts.")


def test_the_p50_of_a_server_is_not_that_of_a_request() -> None:
    trial = next(t for t in example().trials if t.measurement)
    assert trial.measurement is not None
    assert measured(trial) == trial.measurement["latency_p50_ms"]
    trial.measurement.facts["scenario"] = "server"  # type: ignore[index]
    assert measured(trial) is None


@pytest.mark.parametrize(
    ("operator", "word"),
    [
        ("aten::conv2d", "convolution"),
        ("onednn::qconv_pointwise", "convolution"),
        ("GroupConvolution", "convolution"),
        ("ConvertLike", "conversion and layout"),
        ("aten::linear", "matrix product"),
        ("mkl::_mkl_linear", "matrix product"),
        ("QLinearMatMul", "matrix product"),
        ("DynamicQuantizeMatMul", "matrix product"),
        ("MatMulNBits", "matrix product"),
        ("FullyConnected", "matrix product"),
        ("QLinearAdd", "element-wise"),
        ("Subgraph", "element-wise"),
        ("QuantizeLinear", "conversion and layout"),
        ("quantized_decomposed::quantize_per_tensor", "conversion and layout"),
        ("Reorder", "conversion and layout"),
        ("ReorderOutput", "conversion and layout"),
        ("aten::to", "conversion and layout"),
        ("aten::batch_norm", "normalisation"),
        ("SkipLayerNormalization", "normalisation"),
        ("aten::scaled_dot_product_attention", "attention"),
        ("aten::lstm", "recurrence"),
        ("aten::relu", "activation"),
        ("BiasGelu", "activation"),
        ("ReduceMean", "pooling and reduction"),
        ("kernels made by the compiler", "a compiled graph"),
        ("Reshape", "shapes and copies"),
        ("Whatever", "other"),
    ],
)
def test_an_operator_is_of_the_same_kind_in_every_runtime(operator: str, word: str) -> None:
    assert family(operator) == word


def test_a_profile_on_a_known_gpu_is_held_against_its_roofline() -> None:
    run = picked(example())
    trial = compared(run)[-1]
    assert trial.measurement is not None
    values = {"macs": Estimate(5e6), "parameters_read": Estimate(2e6)}
    work = {**trial.measurement.values, **values}
    measurement = dataclasses.replace(trial.measurement, values=work)
    trial = dataclasses.replace(trial, outcome=Completed(measurement))
    kernels = Profile(
        (Operation("gemm", "", "", 0.5), Operation("Memcpy HtoD", "", "", 9.0)), 1.0, 50
    )
    on = {name: {**t, "gpu": {"name": "Tesla T4"}} for name, t in targets(run).items()}
    words = told(dataclasses.replace(run, environment={"targets": on}), trial, kernels)
    knobs = trial.configuration
    floor = floor_ms(PEAKS["Tesla T4"], str(knobs["precision"]), 5e6 * int(knobs["batch"]), 2e6)
    assert floor is not None
    assert f"Its kernels take 0.500 ms, {number(0.5 / floor)} times the roofline floor" in words[-1]
    assert told(run, trial, kernels) == words[:-1], "a core has no such floor"


def targets(run: RunData) -> dict[str, dict[str, object]]:
    """Those of the run's environment, or the one that it must have had."""
    return dict(run.environment.get("targets", {"local": {}}))
