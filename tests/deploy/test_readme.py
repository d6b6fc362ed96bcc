"""The code that ``best/README.txt`` shows does what it says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autotune import plugins
from autotune.contracts import StageContext
from autotune.deploy import BEST, readme, ship
from autotune.engine.execute import _function
from autotune.pick import Pick
from autotune.space import Configuration
from autotune.store.artifacts import Store
from autotune.training import network as networks
from autotune.trial import Completed, Estimate, Measurement, Trial

KNOBS = {
    "torch": {"torch.channels_last": False, "torch.freeze": False},
    "onnxruntime": {"onnxruntime.level": "all"},
    "openvino": {"openvino.hint": "latency", "ptq.samples": 16, "ptq.method": "minmax"},
}


def blocks(text: str) -> list[str]:
    """The pieces of code of a README: its lines indented by four or more."""
    lines = [line[4:] if line.startswith("    ") else "" for line in text.splitlines()]
    return [block for block in "\n".join(lines).split("\n\n") if block.strip()]


@pytest.fixture
def shipped(tiny_taken, tmp_path):
    """``best/`` of a backend and a precision, its artifact made from the tiny task."""
    taken, subject, _ = tiny_taken

    def make(backend: str, precision: str) -> Path:
        knobs = {"backend": backend, "precision": precision, "batch": 2, "threads": 1}
        settings = Configuration(tuple(sorted((knobs | KNOBS[backend]).items())))
        store = Store(tmp_path / "store")
        last = plugins.load("backends", backend).stages(settings, subject.source, subject.data)
        for stage in last.chain():
            with store.writing(stage.key) as out:
                given = taken.open(stage.key)
                inputs = tuple(store.open(s.key) for s in stage.inputs)
                if given is None:
                    _function(stage.function)(StageContext(stage, inputs, out, tmp_path))
                else:
                    for file in given.iterdir():
                        if file.name != "meta.json":
                            (out / file.name).write_bytes(file.read_bytes())
                store.commit(stage.key, out, stage=stage.name, seconds=0.0, facts={})
        facts = {"artifact": last.key, "runtime": {}}
        done = Completed(Measurement({"accuracy": Estimate(0.9)}, facts, ""))
        pick = Pick(1, (), "latency_p50", 1.0, None, None)
        return ship(Trial(1, settings, "sampler", done), pick, store, tmp_path / BEST)

    return make


@pytest.mark.parametrize(
    ("backend", "precision"),
    [
        ("torch", "fp32"),
        ("torch", "bf16"),
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"),
        ("openvino", "int8"),
    ],
)
def test_its_code_predicts(shipped, tiny_taken, backend, precision):
    folder = shipped(backend, precision)
    store, subject, _ = tiny_taken
    network, _, _ = networks.load(store.open(subject.source.key))
    x = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    expected = networks.predict(network, {"x": x}, 0)
    code = blocks((folder / "README.txt").read_text())
    assert len(code) == 2
    for piece in code:
        program = (
            "import numpy as np\n"
            "x = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)\n"
            f"{piece}\n"
            "np.save('out.npy', np.asarray(prediction, dtype=np.float32) "
            "if not hasattr(prediction, 'float') else prediction.float().numpy())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, piece + done.stderr[-600:]
        found = np.load(folder / "out.npy")
        assert found.shape == expected.shape
        close = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.5}[precision]
        assert np.abs(found - expected).max() < close


def test_it_names_the_files_that_are_there(shipped):
    folder = shipped("onnxruntime", "fp32")
    text = (folder / "README.txt").read_text()
    for path in folder.iterdir():
        if path.name != "README.txt":
            assert f"  {path.name}: " in text
    assert "model.xml" not in text


def test_what_runs_on_a_gpu_is_opened_on_a_gpu(tmp_path):
    settings = {"backend": "onnxruntime", "precision": "fp16", "device": "cuda"}
    text = readme.readme(tmp_path, settings)
    assert 'c["gpu.index"] = 0' in text
    assert "CPUExecutionProvider" not in text
    assert "gpu.index" not in readme.readme(tmp_path, {**settings, "device": "cpu"})
    assert "{" not in blocks(text)[-1].replace('{"input": x}', "")
