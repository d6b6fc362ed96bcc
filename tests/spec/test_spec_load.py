"""What a good file becomes."""

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune import plugins
from autotune.errors import SpecError
from autotune.hardware import machine
from autotune.space import Choice, Range
from autotune.spec import Budget, MetricRef, collapsed, load, schema
from autotune.task import CodeRef


def domains(spec):
    return {knob.name: knob.domain for knob in spec.space.knobs}


def test_the_fixed_part(write, folder):
    spec = load(write())
    task = str(folder.resolve() / "task.py")
    assert (spec.name, spec.seed, spec.sampler) == ("small", 3, "tpe")
    assert spec.model.factory == CodeRef(task, "build_model")
    assert spec.model.weights == str(folder.resolve() / "teacher.pt")
    assert spec.model.args == {"width": 16, "depth": 2}
    assert spec.data == CodeRef(task, "data")
    assert spec.metrics == {"accuracy": MetricRef("top1", "max")}
    assert spec.objectives == {
        "accuracy": "max",
        "latency_p50_ms": "min",
        "cost_usd_per_million": "min",
    }
    assert [limit.column for limit in (x.quantity for x in spec.slo.limits)] == [
        "latency_p99_ms",
        "accuracy",
    ]
    assert spec.slo.objective.word == "cost"
    assert spec.budget == Budget(8, 240.0)
    assert [(t.name, t.lane_cores, t.lanes, t.price_per_hour) for t in spec.targets] == [
        ("local", 1, 1, 0.1)
    ]


def test_every_declared_parameter_of_a_section_is_a_knob(write):
    found = domains(load(write()))
    assert found["batch"] == Choice((1, 8))
    assert found["threads"] == Choice((1,))
    assert found["student.width"] == Choice((16, 8))
    assert found["student.depth"] == Choice((2,))  # silent: as the model was trained
    assert found["distill.lr"] == Choice((0.006,))
    assert found["distill.alpha"] == Choice((0.3,))  # silent: the technique's default
    assert found["distill.temperature"] == Choice((4.0,))
    assert found["prune.ratio"] == Choice((0.3, 0.5))
    assert found["onnxruntime.level"] == Choice(("basic", "all"))
    assert found["openvino.hint"] == Choice(("latency",))
    assert "torch.freeze" not in found
    assert "target" not in found


def test_knobs_exist_only_where_they_matter(write):
    points = load(write()).space.grid().points
    assert points
    for point in points:
        student = point["student.width"] != 16
        pruned = point["prune.structure"] == "channel"
        assert ("distill.lr" in point) == student
        assert ("prune.ratio" in point) == pruned
        assert ("finetune.epochs" in point) == pruned
        assert ("ptq.samples" in point) == (point["precision"] == "int8")
        assert ("onnxruntime.level" in point) == (point["backend"] == "onnxruntime")


def test_the_plug_ins_rules_remove_points_with_their_reasons(write):
    removed = load(write()).space.grid().removed
    assert list(removed) == [
        "onnxruntime makes integer kernels of INT8 only from level extended up"
    ]


def test_threads_beyond_the_lane_are_removed(write):
    spec = load(write("threads: 1", "threads: [1, 2]"))
    removed = spec.space.grid().removed
    assert removed["2 threads are more than the 1 core of a lane of target 'local'"] > 0
    assert collapsed(spec.space, spec.space.grid()) == (
        "threads: only 1 is left; 2 cannot run anywhere here",
    )


def test_ranges(write):
    assert domains(load(write("batch: [1, 8]", "batch: {low: 1, high: 8, step: 7}")))[
        "batch"
    ] == Range(1, 8, 7)
    ratio = "ratio: {low: 1e-1, high: 0.5, log: true}"
    assert domains(load(write("ratio: [0.3, 0.5]", ratio)))["prune.ratio"] == Range(
        0.1, 0.5, log=True
    )
    pinned = load(write("ratio: [0.3, 0.5]", "ratio: {low: 0.5, high: 0.5}"))
    assert domains(pinned)["prune.ratio"] == Choice((0.5,))


LOCAL = "  local: {lane_cores: 1, price_per_hour: 0.10}"


def test_several_targets_are_a_knob(write):
    spec = load(
        write(
            LOCAL,
            "  a: {lane_cores: 1, price_per_hour: 0.1}\n  b: {lane_cores: 1, price_per_hour: 1}",
        )
    )
    assert domains(spec)["target"] == Choice(("a", "b"))
    assert {point["target"] for point in spec.space.grid().points} == {"a", "b"}


def test_a_silent_target_is_half_of_this_machine(write):
    (target,) = load(write(f"targets:\n{LOCAL}\n", ""), NO_COST).targets
    assert (target.name, target.lanes) == ("local", 1)
    assert target.lane_cores == max(1, len(machine().cores) // 2)


NO_COST = {"slo": ["latency_p99 <= 2ms"]}


def test_without_a_price_there_is_no_cost_objective(write):
    spec = load(write(LOCAL, "  local: {lane_cores: 1}"), NO_COST)
    assert list(spec.objectives) == ["accuracy", "latency_p50_ms"]
    assert "no price_per_hour: no cost objective" in spec.notes


def test_cost_alone_without_a_price_is_an_error(write):
    path = write(LOCAL, "  local: {lane_cores: 1}")
    with pytest.raises(SpecError, match="cost is the only objective and no price") as caught:
        load(path, {**NO_COST, "objectives": {"cost": "min"}})
    assert caught.value.place == "--set objectives"
    assert "price_per_hour" in caught.value.remedy


def test_an_onnx_model_has_no_training_techniques(folder, again):
    path = folder / "onnx.yaml"
    path.write_text(
        "model: {onnx: model.onnx}\ndata: task.py:data\n"
        "space: {precision: [fp32, int8], backend: [torch, onnxruntime]}\n"
    )
    spec = load(path)
    assert spec.model.onnx == str(folder.resolve() / "model.onnx")
    assert not spec.model.trainable
    absent = ", ".join(plugins.names("techniques"))
    assert any(note.startswith(f"an ONNX model: {absent} are absent") for note in spec.notes)
    grid = spec.space.grid()
    assert {point["backend"] for point in grid.points} == {"onnxruntime"}
    assert "an ONNX model does not run in PyTorch" in grid.removed
    assert again(spec) == spec


def test_a_short_file_gets_every_default(folder):
    path = folder / "short.yaml"
    path.write_text("model: {factory: task.py:build_model}\ndata: task.py:data\nspace: {}\n")
    spec = load(path)
    assert spec.name == "short"
    assert spec.metrics == {"accuracy": MetricRef("top1", "max")}
    assert spec.budget == Budget(64, 600.0)
    assert spec.slo.limits == ()
    found = domains(spec)
    assert found["batch"] == Choice((1,))
    assert found["precision"] == Choice(("fp32",))
    assert found["threads"] == Choice((spec.targets[0].lane_cores,))
    assert set(found["backend"].values) == {"torch", "onnxruntime", "openvino"}


def test_a_name_is_taken_from_the_folder_of_a_file_called_space(write, folder):
    assert load(write("name: small\n", "")).name == folder.name


@pytest.mark.parametrize(
    ("preset", "budget"),
    [
        ("quick", Budget(24, 120.0)),
        ("default", Budget(64, 600.0)),
        ("extensive", Budget(256, 3600.0)),
    ],
)
def test_presets_set_the_budget_where_it_is_silent(preset, budget, write):
    silent = write("budget: {trials: 8, time: 4m}", f"preset: {preset}")
    assert load(silent).budget == budget
    half = write("budget: {trials: 8, time: 4m}", f"preset: {preset}\nbudget: {{trials: 5}}")
    assert load(half).budget == Budget(5, budget.seconds)
    # on the command line the preset replaces the file's budget, but not another flag
    assert load(write(), {"preset": preset}).budget == budget
    assert load(write(), {"preset": preset, "budget.trials": 3}).budget == Budget(3, budget.seconds)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("90s", 90), ("4m", 240), ("1h30m", 5400), ("1.5h", 5400), ("1h 2m 3s", 3723),
        ("75", 75), ("0.5", 0.5), ("unlimited", None),
    ],
)  # fmt: skip
def test_durations(time, seconds, write):
    assert load(write("time: 4m", f"time: {time}")).budget.seconds == seconds


def test_overrides_replace_what_the_file_says(write):
    spec = load(
        write(),
        {"budget.trials": 5, "seed": 9, "name": "other", "space.batch": [2], "budget.time": None},
    )
    assert (spec.name, spec.seed, spec.budget) == ("other", 9, Budget(5, 240.0))
    assert domains(spec)["batch"] == Choice((2,))


def test_a_metric_of_the_users_own(write, folder, again):
    own = '{accuracy: {metric: "task.py:score", direction: max}}'
    spec = load(write("{accuracy: top1}", own))
    ref = CodeRef(str(folder.resolve() / "task.py"), "score")
    assert spec.metrics == {"accuracy": MetricRef(ref, "max")}
    assert again(spec) == spec


# ---- no effects ----------------------------------------------------------------------------------


def test_loading_imports_no_heavy_library(write):
    script = (
        "import sys; from pathlib import Path; from autotune.spec import load;"
        f"load(Path({str(write())!r}));"
        "print([m for m in ('torch', 'ray', 'onnxruntime', 'openvino', 'onnx', 'nncf', 'optuna')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), cut=st.integers(0, 30), put=st.sampled_from(" :{}[],-x0\n'\"&*!"))
def test_a_mangled_file_is_a_spec_or_a_spec_error(at, cut, put, base, folder):
    at %= len(base)
    path = folder / "mangled.yaml"
    path.write_text(base[:at] + put + base[at + cut :])
    loaded = _spec_or_error(path)
    if isinstance(loaded, SpecError):
        assert loaded.place
        assert loaded.cause
        assert loaded.remedy
    else:
        assert loaded.space.knobs


def _spec_or_error(path):
    try:
        return load(path)
    except SpecError as error:
        return error


def test_the_schema_knows_the_fixed_part_and_the_plug_ins():
    document = schema()
    json.dumps(document)
    space = document["properties"]["space"]["properties"]
    assert document["additionalProperties"] is False
    assert {"batch", "threads", "precision", "backend", "ptq", "prune", "student"} <= set(space)
    backends = space["backend"]["anyOf"][0]["properties"]
    assert {"torch", "onnxruntime", "openvino"} <= set(backends)
    level = backends["onnxruntime"]["anyOf"][0]["properties"]["level"]
    assert level["anyOf"][0] == {"enum": ["disabled", "basic", "extended", "all"]}
    assert level["default"] == "all"
