"""Targets with a GPU in a space file: what they mean, and what is told where there is none."""

from dataclasses import replace
from pathlib import Path

import pytest

from autotune.artifact import Stage
from autotune.conversion import onnxruntime_cuda, torch_cuda, trt_library
from autotune.engine import plan as plans
from autotune.engine.plan import Effort, Subject
from autotune.errors import MachineError, SpecError
from autotune.hardware import gpus
from autotune.search import starts
from autotune.spec import fixed, load
from autotune.target import Gpu, Target

READY = Path(__file__).parents[2] / "search_spaces" / "digits" / "nvidia.yaml"
ADA = Gpu(0, "NVIDIA L4", 24 * 2**30, "8.9", "580.10")


@pytest.fixture
def write(tmp_path):
    def write(target):
        text = READY.read_text().replace("{gpu: 0, lane_cores: 1}", target)
        for name in ("task.py", "teacher.pt"):
            (tmp_path / name).write_bytes((READY.parent / name).read_bytes())
        (tmp_path / "space.yaml").write_text(text)
        return tmp_path / "space.yaml"

    return write


@pytest.fixture
def equipped(monkeypatch):
    """As on a machine with one GPU and all libraries for it; nothing is run."""
    found = gpus.Accelerators((ADA,))
    monkeypatch.setattr(fixed, "accelerators", lambda: found)
    monkeypatch.setattr(gpus, "DRIVER", (Path(__file__),))
    monkeypatch.setattr(trt_library, "installed", lambda: trt_library.FULL)
    monkeypatch.setattr(trt_library, "missing", lambda: None)
    monkeypatch.setattr(torch_cuda, "version", lambda name: "2.13.0")
    monkeypatch.setattr(onnxruntime_cuda, "_installed", lambda name: name == "onnxruntime-gpu")


@pytest.mark.skipif(bool(gpus.accelerators().gpus), reason="there is a GPU here")
def test_the_ready_space_says_that_its_gpu_is_missing():
    with pytest.raises(SpecError, match="target 'gpu' asks for a GPU") as caught:
        load(READY)
    assert caught.value.place.endswith(": targets.gpu.gpu")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("found", "cause", "remedy"),
    [
        (
            gpus.Accelerators((), "the NVIDIA driver 470.1 is too old", "install"),
            "470.1",
            "install",
        ),
        (gpus.Accelerators((replace(ADA, index=1),)), "no GPU 0", "1 (NVIDIA L4)"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_told_with_what_would_help(found, cause, remedy, monkeypatch):
    monkeypatch.setattr(fixed, "accelerators", lambda: found)
    with pytest.raises(SpecError) as caught:
        load(READY)
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


@pytest.mark.usefixtures("equipped")
def test_a_gpu_is_one_lane(write):
    with pytest.raises(SpecError, match="a GPU is one lane"):
        load(write("{gpu: 0, lane_cores: 1, lanes: 2}"))


@pytest.mark.usefixtures("equipped")
def test_the_ready_space_holds_every_backend_at_the_precisions_it_has(write):
    spec = load(write("{gpu: 0, lane_cores: 1}"))
    assert spec.targets[0].gpu == ADA
    assert spec.resolved["targets"]["gpu"]["gpu"] == 0
    points = spec.space.grid().points
    there = {(point["backend"], point["precision"]) for point in points}
    floats = {("torch", "bf16"), ("torch", "fp16"), ("torch", "fp32"), ("tensorrt", "bf16")}
    rest = {("tensorrt", w) for w in ("fp16", "fp32", "int8", "fp8")}
    assert there == floats | rest | {("onnxruntime", "fp32"), ("onnxruntime", "fp16")}
    assert all(point["device"] == "cuda" for point in points)
    assert load(spec.path).space == spec.space


@pytest.mark.usefixtures("equipped")
def test_a_space_with_cores_and_a_gpu_gives_each_what_is_its_own(write):
    spec = load(write("{gpu: 0, lane_cores: 1}\n  cores: {lane_cores: 1}"))
    points = spec.space.grid().points
    assert {(p["target"], p["device"]) for p in points} == {("gpu", "cuda"), ("cores", "cpu")}
    for point in points:
        assert point["backend"] != "tensorrt" or point["target"] == "gpu"
        assert ("onnxruntime.provider" in point) == (
            point["backend"] == "onnxruntime" and point["target"] == "gpu"
        )
    first = {point["target"]: point for point in starts.baselines(spec)}
    assert first["gpu"]["device"] == "cuda"
    assert first["cores"]["device"] == "cpu"
    assert "torch.tf32" in first["gpu"]
    assert "torch.tf32" not in first["cores"]


SUBJECT = {"source": Stage("given", "f", "network"), "data": Stage("data", "f", "data")}


@pytest.mark.usefixtures("equipped")
def test_what_computes_on_the_gpu_holds_its_lane_and_nothing_else_does(write):
    spec = load(write("{gpu: 0, lane_cores: 1}"))
    subject = Subject(spec.model, **SUBJECT, metrics={}, seed=0)
    grid = spec.space.grid().points
    point = next(p for p in grid if (p["backend"], p["precision"]) == ("tensorrt", "int8"))
    made = plans.plan(point, subject, {"gpu": spec.targets[0]}, Effort())
    lanes = {stage.name: stage.lane for stage in made.chain()}
    alone = {name for name, lane in lanes.items() if lane == "gpu"}
    assert alone == {"engine", "accuracy", "latency"}
    assert made.latency.parameters["settings"]["gpu.index"] == 0
    assert made.latency.parameters["machine"]["driver"] == "580.10"
    assert made.accuracy.parameters["batch"] == point["batch"]
    engine = next(stage for stage in made.chain() if stage.name == "engine")
    assert Target.from_record(engine.hints["target"]) == spec.targets[0]
    moved = replace(spec.targets[0], gpu=replace(ADA, name="NVIDIA L40S"))
    other = plans.plan(point, subject, {"gpu": moved}, Effort())
    changed = {a.name for a, b in zip(made.chain(), other.chain(), strict=True) if a.key != b.key}
    assert changed == {"engine", "accuracy", "latency"}


def test_a_target_without_a_gpu_comes_back_from_its_record_and_has_no_words():
    from dataclasses import asdict

    from autotune.hardware import machine

    target = Target("here", 1, 1, 0.4, machine())
    assert Target.from_record(asdict(target)) == target
    assert (target.device, target.words) == ("cpu", {})
    with_gpu = replace(target, gpu=ADA)
    assert Target.from_record(asdict(with_gpu)) == with_gpu
    assert with_gpu.lane_price_per_hour == 0.4


@pytest.mark.usefixtures("equipped")
def test_who_forgets_the_target_is_not_given_the_cores_in_its_place(write):
    point = load(write("{gpu: 0, lane_cores: 1}")).space.grid().points[0]
    with pytest.raises(MachineError, match="for a GPU"):
        plans.runtime(point)
