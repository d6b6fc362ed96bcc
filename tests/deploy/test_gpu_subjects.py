"""A trial or a pick that was made for a GPU: opened on the GPU that is here, or told why not."""

import json
from dataclasses import asdict, replace

import pytest

from autotune import hardware
from autotune.conversion import trt_build
from autotune.deploy import bench, inputs, subjects
from autotune.errors import MachineError, UserError
from autotune.hardware import gpus
from autotune.runfolder import JOURNAL, SPEC, encode_outcome
from autotune.spec import dump
from autotune.store.artifacts import Store
from autotune.store.journal import Journal
from autotune.target import Gpu
from autotune.task import ModelSource
from autotune.training.network import write_source
from autotune.trial import Completed, Estimate, Measurement

ADA = Gpu(0, "NVIDIA L4", 24 * 2**30, "8.9", "580.10")
SECOND = replace(ADA, index=1)
OTHER = replace(ADA, name="NVIDIA L40S")
SETTINGS = {
    "backend": "tensorrt",
    "precision": "fp16",
    "device": "cuda",
    "batch": 4,
    "threads": 1,
    "tensorrt.level": 3,
    "tensorrt.tf32": False,
}


def engine(folder):
    """An artifact without the engine itself, which nobody opens without a GPU."""
    built = trt_build.Built("tensorrt==10.9", ADA.name, ADA.capability, (4, 4))
    record = {**asdict(built), "heavy": ["conv"], "inputs": {"x": ["float32", 3, 8, 8]}}
    (folder / trt_build.RECORD).write_text(json.dumps(record))
    write_source(ModelSource(onnx="model.onnx"), folder)


@pytest.fixture
def best(tmp_path):
    """The files of a pick."""
    folder = tmp_path / "best"
    folder.mkdir()
    engine(folder)
    (folder / "configuration.json").write_text(json.dumps({"configuration": SETTINGS}))
    return folder


@pytest.fixture
def run(tmp_path):
    """A run folder whose one trial was measured on the second of two GPUs."""
    folder = tmp_path / "r"
    store = Store(folder / "store")
    for key in ("model-key", "data-key"):
        with store.writing(key) as out:
            engine(out)
            store.commit(key, out, stage="engine", seconds=0.0, facts={})
    facts = {"artifact": "model-key"}
    done = Completed(Measurement({"latency_p50_ms": Estimate(1.0)}, facts, ""))
    target = {"lane_cores": 1, "machine": {"cpu": "a"}, "gpu": asdict(SECOND)}
    opened = {"environment": {"targets": {"gpu": target}}, "artifacts": ["model-key", "data-key"]}
    (folder / SPEC).write_text(dump({"name": "r", "slo": ["latency_p50 <= 9ms"]}))
    with Journal(folder / JOURNAL) as journal:
        journal.append({"event": "open", "at": 0.0, **opened})
        trial = {"event": "trial", "number": 0, "origin": "sampler", "settings": SETTINGS}
        journal.append(trial)
        journal.append({"event": "outcome", "number": 0, "outcome": encode_outcome(done)})
        journal.append({"event": "pick", "trial": 0})
    return folder


def there(monkeypatch, *found):
    monkeypatch.setattr(hardware, "accelerators", lambda: gpus.Accelerators(found))


def subject(what, tmp_path):
    return subjects.find(str(what), None, None, None, 1, tmp_path)


def test_what_a_session_reads_names_the_gpu_of_this_machine(best, tmp_path, monkeypatch):
    there(monkeypatch, OTHER, ADA)
    found = subject(best, tmp_path)
    target = bench.target_of(found, 1)
    assert (found.gpu, target.gpu) == (OTHER, OTHER)  # which its backend then refuses
    assert found.settings(target) == {
        "precision": "fp16",
        "tensorrt.level": 3,
        "tensorrt.tf32": False,
        "gpu.index": 0,
        "gpu.name": "NVIDIA L40S",
        "gpu.capability": "8.9",
    }


@pytest.mark.parametrize(
    ("here", "taken"), [((ADA, SECOND), SECOND), ((OTHER, ADA), ADA), ((OTHER,), OTHER)]
)
def test_a_trial_gets_the_gpu_that_it_was_measured_on(here, taken, run, tmp_path, monkeypatch):
    there(monkeypatch, *here)
    assert subject(f"{run}:0", tmp_path).gpu == taken


def test_without_a_gpu_what_is_missing_is_told(best, run, tmp_path, monkeypatch):
    missing = gpus.Accelerators((), "this machine has no NVIDIA driver", "install it")
    monkeypatch.setattr(hardware, "accelerators", lambda: missing)
    with pytest.raises(MachineError, match="made for a GPU: this machine has no NVIDIA driver"):
        subject(best, tmp_path)
    with pytest.raises(MachineError, match=r"a GPU \(NVIDIA L4\): this machine") as caught:
        subject(run, tmp_path)
    assert caught.value.remedy == "install it"


def test_the_shapes_of_an_engines_inputs_are_declared_in_its_record(best, tmp_path, monkeypatch):
    there(monkeypatch, ADA)
    known = inputs.declared(best)
    assert known == (inputs.Input("x", "float32", (4, 3, 8, 8)),)
    assert bench.load_of(subject(best, tmp_path), bench.Asked())[0] == 4
    with pytest.raises(UserError, match="the model's batch is fixed at 4"):
        bench.load_of(subject(best, tmp_path), bench.Asked(batch=8))
