"""A training stage killed for real: the next run goes on from its checkpoint, to the same bits."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from autotune.engine import execute
from autotune.engine.plan import Effort, plan
from autotune.engine.progress import FILE as PROGRESS
from autotune.space import Configuration
from autotune.store.artifacts import Store

EPOCHS = 60
STUDENT = {
    "batch": 1,
    "threads": 1,
    "precision": "fp32",
    "backend": "torch",
    "torch.freeze": False,
    "student.width": 8,
    "distill.epochs": EPOCHS,
    "prune.structure": "none",
}
CHILD = """
import pickle, sys
from pathlib import Path
from autotune.engine import execute

def run(stage):
    return execute.run(stage, sys.argv[2], None, False, *map(run, stage.inputs))

result = run(pickle.loads(Path(sys.argv[1]).read_bytes()))
Path(sys.argv[3]).write_bytes(pickle.dumps(result))
"""


@pytest.fixture
def training(tiny_taken, target):
    """The stage that trains a student for long."""
    _, subject, _ = tiny_taken
    point = Configuration(tuple(sorted(STUDENT.items())))
    return plan(point, subject, {"local": target}, Effort(timeout_s=200)).network


@pytest.fixture
def begin(tiny_taken, training, tmp_path):
    """Starts the stage as a process of its own, on a store that has the model and data."""
    processes = []

    def start(name):
        folder = tmp_path / name
        if not folder.exists():
            shutil.copytree(tiny_taken[0].root, folder)
        (tmp_path / "stage").write_bytes(pickle.dumps(training))
        words = [str(tmp_path / "stage"), str(folder), str(tmp_path / f"{name}.result")]
        processes.append(subprocess.Popen([sys.executable, "-c", CHILD, *words]))
        return processes[-1], folder

    yield start
    for process in processes:
        process.kill()
        process.wait()


def epoch(line):
    return int(line.split()[1])


def weights(store, stage):
    return torch.load(Store(store).open(stage.key) / "network.pt", weights_only=True)["state"]


def test_a_training_stage_that_was_killed_goes_on_and_ends_the_same(begin, training, tmp_path):
    process, whole = begin("whole")
    assert process.wait(timeout=120) == 0
    process, broken = begin("broken")
    scratch = execute.scratch(training, broken)
    deadline = time.monotonic() + 120
    while not (scratch / PROGRESS).exists() or epoch((scratch / PROGRESS).read_text()) < 8:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = torch.load(scratch / "training.pt", weights_only=True)["epoch"]
    assert 8 <= done < EPOCHS
    assert not Store(broken).has(training.key)

    process, _ = begin("broken")
    assert process.wait(timeout=120) == 0
    result = pickle.loads((tmp_path / "broken.result").read_bytes())
    assert result.ok
    assert epoch(result.log) == done + 1
    first, second = weights(whole, training), weights(broken, training)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not scratch.exists()
