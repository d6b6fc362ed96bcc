"""A measurement: a child of its own, pinned to the lane, and what is told when it goes wrong."""

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from engine_networks import network

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.engine import lane
from autotune.errors import StageError

EFFORT = {"precision": 0.05, "min_s": 0.1, "max_s": 0.3}
SETTINGS = {"precision": "fp32", "torch.channels_last": False, "torch.freeze": False}


def context(taken, target, folder, artifact=None, timeout_s=60.0, effort=None):
    """A latency stage of the given model in PyTorch, ready to run."""
    store, subject, _ = taken
    stage = Stage(
        name="latency",
        function="autotune.engine.lane:latency",
        kind="latency",
        parameters={
            "backend": "torch",
            "settings": SETTINGS,
            "batch": 4,
            "threads": 1,
            "effort": effort or EFFORT,
        },
        inputs=(subject.source, subject.data),
        hints={"target": asdict(target)},
        lane=target.name,
        timeout_s=timeout_s,
    )
    (folder / "out").mkdir()
    inputs = (artifact or store.open(subject.source.key), store.open(subject.data.key))
    return StageContext(stage, inputs, folder / "out", folder)


def children():
    return [p for p in psutil.Process().children() if "autotune.engine.child" in p.cmdline()]


def test_it_measures_on_the_lane_and_keeps_the_samples(tiny_taken, target, tmp_path):
    ready = context(tiny_taken, target, tmp_path)
    answer = lane.latency(ready)
    assert tuple(answer["cores"]) == target.lane(0)
    samples = np.load(ready.out / lane.SAMPLES)
    assert len(samples) > 30
    columns = answer["columns"]
    assert columns["latency_p50_ms"]["value"] == pytest.approx(np.median(samples) / 1e6, rel=0.01)
    assert columns["throughput_per_s"]["value"] == pytest.approx(4e9 / samples.mean(), rel=0.01)
    assert columns["load_seconds"]["value"] > 0
    assert [p.name for p in ready.out.iterdir()] == [lane.SAMPLES]
    assert answer["blocks"] > 0
    assert answer["disturbed_blocks"] <= answer["blocks"]
    assert answer["reference_ratio"] > 0.5
    assert isinstance(answer["noisy"], bool)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the measuring process was killed by SIGSEGV"),
        ("os._exit(7)", "the measuring process ended with exit code 7"),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("raise RuntimeError('no kernel for this')", "RuntimeError: no kernel for this"),
    ],
)
def test_what_goes_wrong_in_the_child_is_told(tiny_taken, target, tmp_path, body, words):
    ready = context(tiny_taken, target, tmp_path, network(tmp_path, body))
    with pytest.raises(StageError, match=words):
        lane.latency(ready)
    assert children() == []


def test_a_child_that_hangs_is_ended_at_its_time(tiny_taken, target, tmp_path):
    artifact = network(tmp_path, "ctypes.PyDLL(None).sleep(60)")
    ready = context(tiny_taken, target, tmp_path, artifact, timeout_s=4.0)
    begun = time.monotonic()
    with pytest.raises(StageError, match="the measurement took longer than 4 s"):
        lane.latency(ready)
    assert time.monotonic() - begun < 15
    assert children() == []


PARENT = """
import sys; sys.path[:0] = [sys.argv[1]]
import json, os, pickle
from autotune.engine import lane
context = pickle.loads(open(sys.argv[2], "rb").read())
lane.latency(context)
"""


def test_the_child_dies_with_its_worker(tiny_taken, target, tmp_path):
    """Else it would measure on beside the next one, on a lane that is free again."""
    effort = {"precision": 1e-6, "min_s": 50.0, "max_s": 50.0}
    ready = context(tiny_taken, target, tmp_path, effort=effort)
    (tmp_path / "context").write_bytes(pickle.dumps(ready))
    code = [sys.executable, "-c", PARENT, str(Path(__file__).parent), str(tmp_path / "context")]
    worker = subprocess.Popen(code)
    child = measuring(worker.pid)
    try:
        assert sorted(os.sched_getaffinity(child.pid)) == list(target.lane(0))
        threads = [int(t.name) for t in Path(f"/proc/{child.pid}/task").iterdir()]
        assert all(os.sched_getaffinity(t) == set(target.lane(0)) for t in threads)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        gone, _ = psutil.wait_procs([child], timeout=5)
        assert gone
    finally:
        worker.kill()
        worker.wait()


def measuring(parent, seconds=60):
    """The measuring child of a worker, once it has loaded its model."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for child in psutil.Process(parent).children():
            if any("torch" in m.path for m in maps(child)):
                return child
        time.sleep(0.1)
    raise AssertionError("no child measures")


def maps(process):
    try:
        return process.memory_maps()
    except psutil.NoSuchProcess:
        return []


def test_a_measurement_waits_for_its_lane(tiny_taken, target, tmp_path):
    """Another run's measurement on the same cores comes first."""
    code = (
        "import pickle, sys, time; from autotune import hardware;"
        "target = pickle.loads(bytes.fromhex(sys.argv[1]));\n"
        "with hardware.lane(target):\n"
        "    print('held', flush=True); time.sleep(2); print(time.time(), flush=True)\n"
    )
    told = pickle.dumps(replace(target, name="another run")).hex()
    other = subprocess.Popen([sys.executable, "-c", code, told], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    ready = context(tiny_taken, target, tmp_path)
    lane.latency(ready)
    freed = float(other.communicate()[0])
    assert (ready.out / lane.SAMPLES).stat().st_mtime > freed + 0.3


def test_a_measurement_beside_a_busy_process_says_so(tiny_taken, target, tmp_path):
    """A neighbour keeps the lane's core busy; what is reported was undisturbed, or is flagged."""
    body = "t = torch.ones(128, 128)\n        for _ in range(60): t = t @ t\n        return x"
    core = target.lane(0)[0]
    code = f"""
import contextlib, os
os.sched_setaffinity(0, {{{core}}})
with contextlib.suppress(PermissionError):  # as much ahead as what is measured
    os.setpriority(os.PRIO_PROCESS, 0, -20)
print(flush=True)
while True: pass
"""
    hog = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        hog.stdout.readline()
        ready = context(tiny_taken, target, tmp_path, network(tmp_path, body))
        answer = lane.latency(ready)
    finally:
        hog.kill()
        hog.communicate()
    assert answer["disturbed_blocks"] >= 1
    assert answer["noisy"] == (answer["run_queue_share"] > 0.03)
