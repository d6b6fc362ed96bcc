"""What each runtime's profiler tells, beside what the session says that it runs."""

import json

import pytest
from backend_nets import DATA, NETWORK, SAMPLES, Place

from autotune import hardware, plugins
from autotune.conversion import onnxruntime_profile
from autotune.measure.spans import Span, within
from autotune.report.profile import family
from autotune.target import Target
from autotune.task import CodeRef, ModelSource

HERE = Target("here", 1, 1, None, hardware.machine())
MODEL = ModelSource(CodeRef("task.py", "build"))
USUAL = {
    "torch": {"torch.channels_last": False, "torch.freeze": False},
    "onnxruntime": {"onnxruntime.level": "all"},
    "openvino": {},
}
CASES = [
    ("convolutions", name, precision, {})
    for name in USUAL
    for precision in ("fp32", "bf16", "int8", "int8_dynamic", "int8_weights")
]
CASES += [("attention", name, "fp32", {}) for name in USUAL]
CASES += [("convolutions", "torch", "bf16", {"torch.freeze": True})]
HEAVY = ("convolution", "matrix product", "attention")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    nets = ("convolutions", "attention")
    return {net: Place(net, tmp_path_factory.mktemp(net)) for net in nets}


def profiled(place, name, settings, batch=4):
    """The profile of ten requests, and the session's facts."""
    backend = plugins.load("backends", name)
    artifact = place.made(backend.stages(settings, NETWORK, DATA))
    requests = [{"x": place.x["x"][i * batch :][:batch]} for i in range(SAMPLES // batch)]
    with backend.open(artifact, settings, batch, 1) as session:
        session.run(requests[0])
        facts = session.facts()
    return backend.profile(artifact, settings, batch, 1, requests[:10]), facts


def ready(name, precision, asked):
    settings = {"precision": precision, "threads": 1, "ptq.samples": 32, **USUAL[name], **asked}
    if plugins.load("backends", name).reject(settings, HERE, MODEL) is not None:
        pytest.skip(f"{name} has no {precision} kernels on this CPU")
    return settings


@pytest.mark.parametrize(("net", "name", "precision", "asked"), CASES)
def test_its_heavy_operators_are_the_kernels_that_the_session_tells(
    places, net, name, precision, asked
):
    profile, facts = profiled(places[net], name, ready(name, precision, asked))
    heavy = [row for row in profile.operators() if family(row.operator) in HEAVY]
    counted = dict.fromkeys({row.precision for row in heavy}, 0.0)
    for row in heavy:
        counted[row.precision] += row.calls
    told = {word: count for word, count in facts["kernels"].items() if count}
    if name == "openvino":  # which does not tell a node that takes less than a microsecond
        assert all(count <= told[word] for word, count in counted.items())
    elif net == "convolutions":
        assert counted == pytest.approx(told)
    assert precision in counted
    assert 0 < profile.total_ms <= profile.wall_ms + 0.002 * len(profile.rows)
    assert profile.requests == pytest.approx(8, abs=2)


def test_an_operator_of_pytorch_holds_what_it_calls_and_tells_its_shapes(places):
    profile, _ = profiled(places["convolutions"], "torch", ready("torch", "fp32", {}))
    calls = {(row.operator, row.name): row.calls for row in profile.rows}
    assert calls["aten::conv2d", "4x2x8x8, 16x2x3x3"] == 1
    assert calls["aten::conv2d", "4x16x8x8, 16x16x3x3"] == 1
    assert not {"aten::convolution", "aten::_convolution"} & {row.operator for row in profile.rows}


def test_onnx_runtime_and_openvino_tell_the_nodes(places):
    for name in ("onnxruntime", "openvino"):
        profile, _ = profiled(places["convolutions"], name, ready(name, "fp32", {}))
        heavy = [row.name for row in profile.rows if family(row.operator) == "convolution"]
        assert len(heavy) == len(set(heavy)) == 3
        assert any("second" in word for word in heavy)


def test_a_node_with_a_graph_inside_is_one_and_a_conversion_tells_both_sides(tmp_path):
    def event(name, start, end, **args):
        kind = "Session" if name == "model_run" else "Node"
        return {"cat": kind, "name": name, "ts": start, "dur": end - start, "args": args}

    def node(name, start, end, operator, source="float", made="float"):
        sides = {"input_type_shape": [{source: [1]}], "output_type_shape": [{made: [1]}]}
        word = f"{name}_kernel_time"
        return event(word, start, end, node_index=name, op_name=operator, **sides)

    events = [event("session_initialization", 0, 5)]
    for start in (10, 110):
        events += [
            node("inner", start + 12, start + 18, "Add"),
            node("loop", start + 10, start + 30, "Loop"),
            node("in", start + 40, start + 44, "QuantizeLinear", made="uint8"),
            event("model_run", start, start + 50),
        ]
    (tmp_path / "trace.json").write_text(json.dumps(events))
    found = onnxruntime_profile.profile(tmp_path / "trace.json", [0.05, 0.07], lambda _: None)
    told = {row.operator: (row.name, row.precision, row.ms, row.calls) for row in found.rows}
    assert told["Loop"] == ("loop", "fp32", pytest.approx(0.02), 1)
    assert told["QuantizeLinear"] == ("in", "fp32 to int8", pytest.approx(0.004), 1)
    assert set(told) == {"Loop", "QuantizeLinear"}
    assert found.wall_ms == pytest.approx(0.06)


def test_what_pytorchs_profiler_does_not_name_is_told_as_the_rest():
    from autotune.conversion import torch_profile

    spans = [
        Span("forward", 0, 100),
        Span("aten::add", 10, 30),
        Span("aten::mul", 40, 90),
    ]
    calls = [part[0] for part in within(spans[1:], spans[1:])]
    (rest,) = torch_profile._rests(spans, calls)
    assert (rest.word, rest.length) == ("TorchScript, what it does not name", 30)


@pytest.mark.slow
def test_a_compiled_graph_tells_its_operators_and_the_kernels_made_for_it(places):
    settings = ready("torch", "fp32", {"torch.compile": True})
    profile, _ = profiled(places["convolutions"], "torch", settings)
    operators = {row.operator: row for row in profile.operators()}
    assert operators["kernels made by the compiler"].ms > 0
    assert any("convolution" in word for word in operators)
