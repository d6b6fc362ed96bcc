"""Where a search begins."""

import shutil

from autotune.search.starts import baselines, declared, experts
from autotune.spec import load


def test_the_baseline_is_the_model_as_given_at_every_batch(tiny):
    spec = load(tiny / "space.yaml")
    found = baselines(spec)
    batches = next(k for k in spec.space.knobs if k.name == "batch").domain.grid()
    assert [c["batch"] for c in found] == list(batches)
    for point in found:
        assert (point["backend"], point["precision"]) == ("torch", "fp32")
        assert point["torch.freeze"] is False
        assert point["torch.channels_last"] is False
        assert all(
            point[f"student.{k}"] == v
            for k, v in spec.model.args.items()
            if f"student.{k}" in point
        )
        assert point.get("prune.structure", "none") == "none"
        assert not any(name.startswith(("distill.", "finetune.")) for name in point)


def test_a_baseline_need_not_be_in_the_space(tiny):
    spec = load(
        tiny / "space.yaml", {"space.backend": ["onnxruntime"], "space.precision": ["int8"]}
    )
    assert all(c["backend"] == "torch" and c["precision"] == "fp32" for c in baselines(spec))
    assert not any(c in spec.space.grid().points for c in baselines(spec))


def test_experts_try_every_backend_at_every_precision_that_can_run(tiny):
    spec = load(tiny / "space.yaml", {"budget.trials": 100})
    found = experts(spec)
    points = spec.space.grid().points
    assert all(point in points for point in found)
    wanted = {(p["backend"], p["precision"]) for p in points}
    assert {(p["backend"], p["precision"]) for p in found} == wanted
    assert len({p.key for p in found}) == len(found)


def test_a_small_budget_is_half_for_the_experts_and_each_technique_is_among_them(tiny):
    words = {"qat": {"epochs": [0, 1, 2, 4]}, "prune.structure": ["none", "channel", "2:4"]}
    more = {f"space.{k}": v for k, v in words.items()}
    spec = load(tiny / "space.yaml", {**more, "budget.trials": 20})
    found = experts(spec)
    assert len(found) == 10
    assert {p["backend"] for p in found[:3]} == {"torch", "onnxruntime", "openvino"}
    changed = [
        {k: p[k] for k in ("student.width", "prune.structure", "qat.epochs") if k in p}
        for p in found[3:7]
    ]
    same = {"student.width": 16, "prune.structure": "none", "qat.epochs": 0}
    assert changed == [
        {**same, "student.width": 8},
        {**same, "prune.structure": "channel"},
        {**same, "prune.structure": "2:4"},
        {**same, "qat.epochs": 2},
    ]
    assert {p["precision"] for p in found[:7] if p["backend"] != "torch"} == {"int8"}


def test_the_experts_of_the_smallest_budget_are_one(tiny):
    assert len(experts(load(tiny / "space.yaml", {"budget.trials": 1}))) == 1


def test_every_knob_of_a_plugin_is_declared_once(tiny):
    spec = load(tiny / "space.yaml")
    shared = {"batch", "threads", "precision", "backend", "target"}
    for knob in spec.space.knobs:
        assert len(declared(spec, knob)) == (0 if knob.name in shared else 1), knob.name


def test_the_baseline_is_the_model_as_given_also_where_the_space_leaves_it_out(tiny):
    given = load(tiny / "space.yaml").model.args
    name, value = next(iter(given.items()))
    spec = load(
        tiny / "space.yaml",
        {f"space.student.{name}": value // 2, "space.prune.structure": "channel"},
    )
    for point in baselines(spec):
        assert point[f"student.{name}"] == value
        assert point["prune.structure"] == "none"
        assert not any(knob.startswith(("distill.", "finetune.")) for knob in point)


def test_the_baseline_is_no_student_where_students_differ_in_every_way(tiny, tmp_path):
    for name in ("task.py", "space.yaml", "teacher.pt"):
        shutil.copy(tiny / name, tmp_path)
    with (tmp_path / "task.py").open("a") as file:
        file.write("\n\ndef small():\n    return Net(8)\n")
    words = {"factory": ["build_model", "small"], "shrink": [0, 0.5], "width": [16, 8]}
    spec = load(tmp_path / "space.yaml", {f"space.student.{k}": v for k, v in words.items()})
    points = spec.space.grid().points
    for point in baselines(spec):
        own = {k: v for k, v in point.items() if k.startswith("student.")}
        wanted = {"student.factory": "build_model", "student.shrink": 0, "student.width": 16}
        assert own == wanted
        assert point in points


def test_the_baseline_of_a_server_answers_each_request_by_itself(tiny):
    batcher = {"max_batch": [2, 8], "max_queue_delay_ms": [0, 1]}
    asked = {
        "scenario": "server",
        "slo": ["latency_p99 <= 50ms"],
        "objectives": {"accuracy": "max", "server_rate": "max", "cost": "min"},
        "space.batch": 1,
        "space.server": batcher,
    }
    spec = load(tiny / "space.yaml", asked)
    (given,) = baselines(spec)
    assert (given["batch"], given["server.max_batch"]) == (1, 1)
    assert "server.max_queue_delay_ms" not in given
    assert given not in spec.space.grid().points
    assert {point["server.max_batch"] for point in experts(spec)} == {2}
