"""Which configurations share which stages: the laws of the keys."""

from dataclasses import replace

import pytest

from autotune.artifact import Stage
from autotune.engine.plan import Effort, Subject, plan
from autotune.scenario import Scenario
from autotune.space import Configuration
from autotune.target import Machine, Target
from autotune.task import CodeRef, ModelSource

MODEL = ModelSource(CodeRef("task.py", "build_model"), {"width": 16})
SUBJECT = Subject(
    MODEL,
    Stage("model", "m:f", "network", {"code": "c"}),
    Stage("data", "m:f", "data", {"fingerprint": "f"}),
    {"accuracy": {"plugin": "top1"}},
    seed=0,
)
MACHINE = Machine("a processor", ("avx512_vnni",), (0, 1, 2, 3), 2**34)
TARGET = Target("local", 1, 1, 0.1, MACHINE)
POINT = {
    "batch": 1,
    "threads": 1,
    "precision": "int8",
    "ptq.samples": 32,
    "ptq.method": "minmax",
    "backend": "onnxruntime",
    "onnxruntime.level": "all",
    "student.width": 8,
    "distill.epochs": 3,
    "prune.structure": "channel",
    "prune.ratio": 0.5,
    "prune.round_to": 8,
    "finetune.epochs": 2,
}


def planned(subject=SUBJECT, target=TARGET, effort=None, model=None, **changes):
    settings = {k.replace("__", "."): v for k, v in changes.items()}
    values = {k: v for k, v in (POINT | settings).items() if v is not None}
    subject = replace(subject, model=model) if model else subject
    point = Configuration(tuple(sorted(values.items())))
    return plan(point, subject, {"local": target}, effort or Effort())


def names(plan):
    return [stage.name for stage in plan.chain()]


def differing(one, two):
    """The names of the stages of ``two`` that ``one`` does not share."""
    ours = {stage.key for stage in one.chain()}
    return [stage.name for stage in two.chain() if stage.key not in ours]


def test_a_full_chain_has_its_stages_in_order():
    chain = [n for n in names(planned()) if n not in ("data", "teacher logits", "reference")]
    assert chain == [
        *("model", "distill", "prune", "finetune"),
        *("export", "quantize", "accuracy", "latency"),
    ]


def test_techniques_that_are_not_active_have_no_stage():
    plain = planned(student__width=16, prune__structure="none", prune__ratio=None)
    assert plain.network == SUBJECT.source
    assert not {"distill", "prune", "finetune"} & set(names(plain))


@pytest.mark.parametrize("knob", ["batch", "threads"])
def test_only_the_latency_depends_on(knob):
    assert differing(planned(), planned(**{knob: 4})) == ["latency"]


def test_another_backend_shares_the_network_and_the_export():
    found = differing(planned(), planned(backend="openvino", openvino__hint="latency"))
    assert found == ["quantize", "accuracy", "latency"]


def test_a_runtime_flag_shares_the_artifact():
    assert differing(planned(), planned(onnxruntime__level="extended")) == ["accuracy", "latency"]


def test_calibration_shares_the_export():
    found = differing(planned(), planned(ptq__samples=64))
    assert found == ["quantize", "accuracy", "latency"]


@pytest.mark.parametrize(
    ("knob", "value", "kept"),
    [
        ("finetune__epochs", 9, {"model", "data", "teacher logits", "distill", "prune"}),
        ("prune__ratio", 0.25, {"model", "data", "teacher logits", "distill"}),
        ("distill__epochs", 9, {"model", "data", "teacher logits"}),
    ],
)
def test_a_technique_leaves_what_stands_before_it(knob, value, kept):
    changed = planned(**{knob: value})
    assert set(names(changed)) - set(differing(planned(), changed)) == kept


def test_a_knob_of_another_backend_does_not_count():
    assert differing(planned(), planned(openvino__hint="throughput")) == []


@pytest.mark.parametrize(
    "changed",
    [
        replace(MACHINE, cpu="another processor"),
        replace(MACHINE, flags=("avx2",)),
    ],
)
def test_another_machine_keeps_artifacts_and_measures_again(changed):
    target = replace(TARGET, machine=changed)
    assert set(differing(planned(), planned(target=target))) == {"accuracy", "latency"}


def test_what_hangs_on_a_clock_is_made_again_on_another_machine():
    target = replace(TARGET, machine=replace(MACHINE, cpu="another processor"))
    timed = {"prune__allocation": "latency"}
    found = differing(planned(**timed), planned(target=target, **timed))
    assert {"prune", "finetune", "export"} <= set(found)
    assert "distill" not in found
    assert differing(planned(**timed), planned(**timed)) == []


@pytest.mark.parametrize(
    "target",
    [
        replace(TARGET, name="local", price_per_hour=3.0),
        replace(TARGET, machine=replace(MACHINE, memory_bytes=1)),
        replace(TARGET, lanes=2),
    ],
)
def test_what_cannot_change_a_measurement_is_not_in_its_key(target):
    assert differing(planned(), planned(target=target)) == []


def test_a_wider_lane_or_a_longer_measurement_is_another_latency():
    assert differing(planned(), planned(target=replace(TARGET, lane_cores=2))) == ["latency"]
    assert differing(planned(), planned(effort=Effort(max_s=10))) == ["latency"]
    assert differing(planned(), planned(effort=Effort(timeout_s=9))) == []


def test_the_seed_counts_for_techniques_alone():
    seeded = planned(subject=replace(SUBJECT, seed=1))
    found = set(differing(planned(), seeded))
    assert not found & {"model", "data", "teacher logits"}
    assert "distill" in found
    plain = {"student__width": 16, "prune__structure": "none"}
    assert differing(planned(**plain), planned(subject=replace(SUBJECT, seed=1), **plain)) == []


def test_other_data_or_another_metric_is_another_accuracy():
    metrics = planned(subject=replace(SUBJECT, metrics={"accuracy": {"plugin": "macro_f1"}}))
    assert differing(planned(), metrics) == ["accuracy"]
    data = Stage("data", "m:f", "data", {"fingerprint": "g"})
    other = planned(subject=replace(SUBJECT, data=data))
    assert "model" not in differing(planned(), other)
    assert {"accuracy", "latency", "distill"} <= set(differing(planned(), other))


def test_an_onnx_model_has_no_technique_and_no_export():
    onnx = ModelSource(onnx="model.onnx")
    subject = replace(SUBJECT, model=onnx, source=Stage("model", "m:f", "onnx", {"code": "c"}))
    assert names(planned(subject=subject)) == [
        *("model", "data", "quantize", "reference", "accuracy", "latency")
    ]


def test_where_it_runs():
    found = planned()
    assert found.latency.lane == "local"
    assert all(s.lane == "" for s in found.chain() if s.name != "latency")
    assert all(s.libraries for s in found.chain() if s not in (SUBJECT.source, SUBJECT.data))


def test_the_proxy_has_the_shapes_and_nothing_that_is_trained():
    one = planned()
    chain = [stage.name for stage in one.proxy.chain()]
    assert chain == [
        "model",
        "data",
        "distill (untrained)",
        "prune (untrained)",
        "export",
        "quantize",
        "latency",
    ]
    assert one.proxy.key != one.latency.key
    for changed in ({"distill__epochs": 9}, {"finetune__epochs": 9}, {"distill__alpha": 0.9}):
        assert planned(**changed).proxy.key == one.proxy.key
        assert planned(**changed).latency.key != one.latency.key
    for changed in ({"prune__ratio": 0.3}, {"student__width": 4}, {"batch": 2}):
        assert planned(**changed).proxy.key != one.proxy.key


@pytest.mark.parametrize("allocation", ["global", "latency"])
def test_where_the_weights_decide_the_shapes_the_proxy_is_of_the_network_itself(allocation):
    given = {"student__width": 16, "prune__allocation": allocation}
    one = planned(**given)
    pruned = next(s for s in one.network.chain() if s.name == "prune")
    assert pruned in one.proxy.chain()
    assert not any(s.name in ("finetune", "prune (untrained)") for s in one.proxy.chain())
    assert planned(**given, prune__steps=2).proxy is None
    assert planned(**given | {"student__width": 8}).proxy is None


def test_a_knob_that_a_point_does_not_hold_is_at_its_default():
    said = planned(student__factory="build_model", student__shrink=0.0, distill__hint=0.0)
    assert differing(planned(), said) == []


def test_every_student_shares_the_teachers_logits():
    one = planned(student__factory="build_model", student__shrink=0.5)
    two = planned(student__factory="small", student__width=None)
    assert set(differing(one, two)) >= {"distill", "latency"}
    assert not {"model", "data", "teacher logits"} & set(differing(one, two))
    settings = next(s for s in two.chain() if s.name == "distill").parameters["settings"]
    assert [k for k in settings if k.startswith("student.")] == ["student.factory"]


def test_where_nothing_is_trained_there_is_no_proxy():
    untouched = {"student__width": 16, "prune__structure": "none"}
    assert planned(**untouched).proxy is None


def serving(scenario, **changes):
    settings = {k.replace("__", "."): v for k, v in changes.items()}
    point = Configuration(tuple(sorted((POINT | settings).items())))
    return plan(point, SUBJECT, {"local": TARGET}, Effort(), scenario)


def test_a_scenario_is_part_of_the_latency_alone_and_one_by_one_says_nothing():
    one = planned()
    assert "scenario" not in one.latency.parameters
    assert one == serving(Scenario())
    assert differing(one, serving(Scenario("offline"))) == ["latency"]
    server = serving(Scenario("server", 5.0), server__max_batch=4)
    assert differing(one, server) == ["latency"]
    told = {"kind": "server", "max_batch": 4, "max_queue_delay_ms": 0.0, "p99_ms": 5.0}
    assert server.latency.parameters["scenario"] == told
    assert server.proxy.parameters["scenario"] == told


def test_a_batcher_or_another_limit_is_another_latency():
    knobs = {"server__max_batch": 4, "server__max_queue_delay_ms": 1.0}
    one = serving(Scenario("server", 5.0), **knobs)
    assert one.latency.parameters["scenario"]["max_queue_delay_ms"] == 1.0
    for changed in ({"server__max_batch": 8}, {"server__max_queue_delay_ms": 2.0}):
        assert differing(one, serving(Scenario("server", 5.0), **knobs | changed)) == ["latency"]
    assert differing(one, serving(Scenario("server", 6.0), **knobs)) == ["latency"]


def test_where_a_sample_hangs_on_its_batch_the_accuracy_is_of_the_servers_largest():
    knobs = {"precision": "int8_dynamic"}
    one = serving(Scenario("server", 5.0), **knobs, server__max_batch=4)
    assert one.accuracy.parameters["batch"] == 4
    assert serving(Scenario(), **knobs).accuracy.parameters["batch"] == POINT["batch"]
