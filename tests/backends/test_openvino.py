"""Each flag of the OpenVINO backend changes what runs, and what it says about it is true."""

import numpy as np
import openvino as ov
import pytest
from backend_nets import DATA, NETWORK, Place

from autotune import hardware
from autotune.backends import openvino as backend
from autotune.conversion import export, openvino_models
from autotune.errors import StageError
from autotune.measure import check
from autotune.target import Machine, Target
from autotune.task import CodeRef, ModelSource

HERE = hardware.machine()
BF16 = hardware.bf16_kernels(HERE)
VNNI = HERE.has("avx512_vnni") or HERE.has("avx_vnni")
needs_bf16 = pytest.mark.skipif(not BF16, reason="this CPU has no bf16 instructions")
needs_vnni = pytest.mark.skipif(not VNNI, reason="this CPU has no VNNI")
NETS = ("convolutions", "attention", "filters", "recurrent")
MODEL = ModelSource(CodeRef("task.py", "build"))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return {net: Place(net, tmp_path_factory.mktemp(net)) for net in NETS}


def settings(precision="fp32", **asked):
    given = {"precision": precision, "threads": 1, "ptq.samples": 32, "weights.group": 16}
    return given | {w.replace("__", "."): v for w, v in asked.items()}


def quantized(place, **asked):
    """The INT8 OpenVINO model, read from its file."""
    artifact = place.made(backend.stages(settings("int8", **asked), NETWORK, DATA))
    return ov.Core().read_model(str(artifact / openvino_models.FILE))


def kinds(model, kind):
    return [node for node in model.get_ops() if node.get_type_name() == kind]


# ---- precisions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "precision",
    [
        "int8",
        "int8_weights",
        "int4_weights",
        pytest.param("int8_dynamic", marks=needs_vnni),
        pytest.param("bf16", marks=needs_bf16),
    ],
)
def test_most_products_of_a_transformer_are_of_the_precision_asked_for(precision, places):
    place = places["attention"]
    outputs, facts = place.ran(backend, settings(precision))
    kernels = facts["kernels"]
    assert 2 * kernels[precision] > sum(kernels.values())
    assert not np.array_equal(outputs, place.expected)
    check.verify(place.expected, outputs, precision)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_recurrent_layer_counts_in_the_precision_that_it_runs_in(precision, places):
    _, facts = places["recurrent"].ran(backend, settings(precision))
    head = {"fp32": {"fp32": 2}, "int8": {"fp32": 1, "int8": 1}}
    assert facts["kernels"] == head[precision]


@needs_vnni
def test_the_same_weights_with_activations_rounded_and_not(places):
    place = places["attention"]
    weights, dynamic = settings("int8_weights"), settings("int8_dynamic")
    assert backend.stages(weights, NETWORK, DATA) == backend.stages(dynamic, NETWORK, DATA)
    exact, told = place.ran(backend, weights)
    rounded, _ = place.ran(backend, dynamic)
    assert set(told["kernels"]) == {"int8_weights"}
    assert np.abs(exact - rounded).max() > 1e-4


@pytest.mark.parametrize("precision", ["int8", "int8_weights", "int4_weights", "int8_dynamic"])
def test_a_sample_does_not_hang_on_its_batch(precision, places):
    if precision == "int8_dynamic" and not VNNI:
        pytest.skip("this CPU has no VNNI")
    place = places["attention"]
    together, _ = place.ran(backend, settings(precision))
    alone, _ = place.ran(backend, settings(precision), batch=1)
    assert not backend.depends_on_batch(settings(precision))
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-3, atol=1e-4)


def test_the_weights_of_convolutions_are_left_alone(places):
    _, facts = places["convolutions"].ran(backend, settings("int8_weights"))
    assert facts["kernels"] == {"fp32": 3, "int8_weights": 1}
    with pytest.raises(StageError, match="and the model has none"):
        places["filters"].ran(backend, settings("int8_weights"))


def test_a_group_that_does_not_divide_becomes_the_largest_smaller_one_that_does(places):
    """The layers have 32 or 64 inputs; a group of 128 is what each layer has in all."""
    found = {}
    for group in (16, 32, 64, 128):
        found[group], _ = places["attention"].ran(
            backend, settings("int4_weights", weights__group=group)
        )
    assert not np.array_equal(found[16], found[32])
    assert not np.array_equal(found[32], found[64])
    assert np.array_equal(found[64], found[128])


# ---- the words of ptq ----------------------------------------------------------------------------


def test_symmetric_ranges_are_around_zero_or_above_it(places):
    def shifted(model):
        bounds = [(n.input_value(1), n.input_value(2)) for n in kinds(model, "FakeQuantize")]
        lows, highs = zip(*[(low_(a), low_(b)) for a, b in bounds], strict=True)
        return [a for a, b in zip(lows, highs, strict=True) if a < 0 and abs(a + b) > 0.02 * b]

    def low_(value):
        return float(value.get_node().data.min())

    assert shifted(quantized(places["attention"], ptq__scheme="mixed"))
    assert not shifted(quantized(places["attention"], ptq__scheme="symmetric"))


@pytest.mark.parametrize(("granularity", "most"), [("channel", 64), ("tensor", 1)])
def test_the_scales_of_the_weights_are_one_a_channel_or_one(granularity, most, places):
    model = quantized(places["attention"], ptq__granularity=granularity)
    integers = [n for n in kinds(model, "Constant") if n.get_element_type() == ov.Type.i8]
    widened = [place.get_node() for n in integers for place in n.output(0).get_target_inputs()]
    scaled = [place.get_node() for n in widened for place in n.output(0).get_target_inputs()]
    scales = [
        n.input_value(1).get_node().data.size for n in scaled if n.get_type_name() == "Multiply"
    ]
    assert len(scales) >= 6
    assert max(scales) == most


def test_minmax_takes_in_every_calibration_sample_and_percentiles_cut(places):
    place = places["convolutions"]
    x = place.x["x"][:32]
    spans = {}
    for method in ("minmax", "percentile"):
        model = quantized(place, ptq__method=method)
        first = next(
            n
            for n in kinds(model, "FakeQuantize")
            if n.input_value(0).get_node() in model.get_parameters()
        )
        spans[method] = [float(first.input_value(i).get_node().data.item()) for i in (1, 2)]
    assert spans["minmax"] == pytest.approx([x.min(), x.max()], rel=0.02)
    assert spans["percentile"][1] < 0.95 * x.max()


@pytest.mark.parametrize("keep", [1, 2])
def test_the_most_sensitive_layers_stay_in_floating_point(keep, places):
    """Four layers in all."""
    _, facts = places["convolutions"].ran(backend, settings("int8", ptq__keep=keep))
    assert facts["kernels"] == {"int8": 4 - keep, "fp32": keep}


def test_as_many_layers_kept_as_there_are_is_an_error(places):
    with pytest.raises(StageError, match="at least one must be"):
        places["convolutions"].ran(backend, settings("int8", ptq__keep=4))


@pytest.mark.parametrize(("net", "found"), [("attention", True), ("convolutions", False)])
def test_attention_is_found(net, found, places):
    folder = places[net].made(export.stage(NETWORK, DATA))
    assert openvino_models.attends(ov.Core().read_model(str(folder / export.FILE))) is found


def test_a_softmax_at_the_end_is_no_attention():
    x = ov.opset13.parameter([-1, 8], np.float32)
    classes = ov.opset13.softmax(ov.opset13.matmul(x, np.ones((8, 4), np.float32), False, False), 1)
    assert not openvino_models.attends(ov.Model([classes], [x]))


# ---- flags ---------------------------------------------------------------------------------------


def test_without_snippets_attention_is_not_one_kernel(places):
    place = places["attention"]
    fused, with_them = place.ran(backend, settings(openvino__snippets=True))
    plain, without = place.ran(backend, settings(openvino__snippets=False))
    assert "Subgraph" in with_them["operators"]
    assert "Subgraph" not in without["operators"]
    assert without["operators"]["Softmax"] == 1
    np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-5)


@needs_bf16
@pytest.mark.parametrize("precision", ["int8", "int8_weights", "int4_weights"])
def test_the_mode_decides_what_the_rest_runs_in(precision, places):
    place = places["attention"]
    kept = settings(precision, openvino__execution_mode="accuracy")
    freed = settings(precision, openvino__execution_mode="performance")
    _, accuracy = place.ran(backend, kept)
    outputs, performance = place.ran(backend, freed)
    assert "bf16" not in accuracy["precisions"]
    assert performance["precisions"]["bf16"] > 0
    assert performance["kernels"][precision] == accuracy["kernels"][precision]
    check.verify(place.expected, outputs, precision)


@pytest.mark.parametrize(("hint", "streams"), [("latency", 1), ("throughput", 2)])
def test_the_hint_decides_how_many_streams_share_the_threads(hint, streams, places):
    asked = settings(openvino__hint=hint)
    _, facts = places["convolutions"].ran(backend, asked, threads=2)
    assert (facts["threads"], facts["streams"]) == (2, streams)


def test_a_simplified_model_has_fewer_nodes_and_computes_the_same(places):
    place = places["attention"]
    nodes = []
    for simplify in (False, True):
        asked = settings(openvino__simplify=simplify)
        artifact = place.made(backend.stages(asked, NETWORK, DATA))
        nodes.append(len(ov.Core().read_model(str(artifact / export.FILE)).get_ops()))
        outputs, _ = place.ran(backend, asked)
        np.testing.assert_allclose(outputs, place.expected, rtol=1e-4, atol=1e-5)
    assert nodes[1] < nodes[0]


# ---- what cannot run -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "flags", "kind", "reason"),
    [
        (settings("int8", ptq__method="entropy"), "", "never", "entropy"),
        (settings("int8_dynamic"), "avx2", "not on this target", "VNNI"),
        (settings("bf16"), "avx2", "not on this target", "bf16"),
        (
            settings("int8", openvino__execution_mode="performance"),
            "avx512_vnni",
            "not on this target",
            "both execution modes are one",
        ),
        (settings(openvino__hint="throughput"), "avx2", "never", "one stream"),
    ],
)
def test_what_cannot_run_is_told_before(asked, flags, kind, reason):
    target = Target("here", 1, 1, None, Machine("imagined", (flags,), (0,), 2**30))
    found = backend.reject(asked, target, MODEL)
    assert found.kind == kind
    assert reason in found.reason
