"""NVIDIA GPUs as their driver tells them; with one, what it tells of its memory and energy."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from autotune.engine import usage
from autotune.hardware import gpus
from autotune.target import Gpu

ADA = Gpu(0, "NVIDIA L4", 24 * 2**30, "8.9", "580.10")
FOUND = gpus.accelerators()


def test_there_is_a_gpu_or_a_reason_with_a_remedy():
    assert bool(FOUND.gpus) != bool(FOUND.missing)
    assert bool(FOUND.missing) == bool(FOUND.remedy)


def test_without_its_library_the_extra_is_told(monkeypatch):
    monkeypatch.setattr(gpus, "find_spec", lambda name: None)
    found = gpus.accelerators()
    assert "nvidia-ml-py is not installed" in found.missing
    assert found.remedy == "pip install 'autotune[gpu]'"


@pytest.mark.skipif(gpus.driver(), reason="there is a driver here")
def test_without_a_driver_that_is_said():
    pytest.importorskip("pynvml")
    assert FOUND.missing == "this machine has no NVIDIA driver"


def test_an_old_driver_is_told_with_the_one_that_would_do():
    found = gpus.judged((ADA,), "470.161.03")
    assert found.gpus == ()
    assert "470.161.03 is too old" in found.missing
    assert "525" in found.remedy
    assert gpus.judged((ADA,), "525.60.13").gpus == (ADA,)
    assert gpus.judged((), "580.10").missing == "the NVIDIA driver finds no GPU"


@pytest.mark.parametrize(
    ("capability", "has"),
    [
        ("6.1", {"fp32"}),
        ("7.0", {"fp32", "fp16"}),
        ("7.5", {"fp32", "fp16", "int8"}),
        ("8.0", {"fp32", "fp16", "int8", "bf16", "tf32", "2:4"}),
        ("8.9", {"fp32", "fp16", "int8", "bf16", "tf32", "2:4", "fp8"}),
        ("12.0", {"fp32", "fp16", "int8", "bf16", "tf32", "2:4", "fp8"}),
    ],
)
def test_the_compute_capability_says_what_it_multiplies(capability, has):
    gpu = Gpu(0, "imagined", 2**30, capability, "580.10")
    words = ("fp32", "fp16", "int8", "bf16", "tf32", "2:4", "fp8", "int4_weights")
    assert {word for word in words if gpu.has(word)} == has


def test_the_gpu_that_was_told_of_is_found_by_its_name_and_then_its_number():
    other, second = replace(ADA, name="NVIDIA L40S"), replace(ADA, index=1)
    assert gpus.alike((other, ADA, second), asdict(ADA)) == ADA
    assert gpus.alike((ADA, second), asdict(second)) == second
    assert gpus.alike((other, second), asdict(ADA)) == second
    assert gpus.alike((other,), asdict(ADA)) is None


def test_without_a_gpu_nothing_is_told_of_one():
    assert usage.begin({"precision": "fp32"}) is None
    assert usage.columns(None, lambda batch: None, []) == {}


@pytest.mark.gpu
def test_memory_that_is_taken_and_energy_that_is_spent_are_seen():
    torch = pytest.importorskip("torch")
    before = usage.begin({"gpu.index": 0})
    held = torch.ones(64, 2**20, device="cuda")

    def run(batch):
        return (held * float(batch["x"][0])).sum().cpu().numpy()

    columns = usage.columns(before, run, [{"x": np.ones(4, dtype=np.float32)}])
    assert columns["device_memory_peak_bytes"]["value"] >= held.nbytes
    if "energy_mj_per_sample" in columns:
        assert columns["energy_mj_per_sample"]["value"] > 0
