"""Fixtures that tests of several rooms share: the tiny task, what it is made of, a local Ray."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from autotune import hardware
from autotune.engine import intake
from autotune.engine.cluster import cluster
from autotune.hardware import gpus
from autotune.store.artifacts import Store
from autotune.target import Target
from autotune.task import CodeRef, ModelSource

# The networks of the tests are tiny: a second thread waits, and for long beside other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no failure of what is tested.
settings.register_profile("autotune", deadline=None)
settings.load_profile("autotune")

TINY = Path(__file__).parent / "tiny"
METRICS = {"accuracy": {"plugin": "top1"}}
GPU_ROW = "gpu row"
"""The property in which a test leaves a row of pairs for the table at the end."""


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not gpus.accelerators().gpus:
        pytest.skip(f"needs an NVIDIA GPU: {gpus.accelerators().missing}")


def pytest_terminal_summary(terminalreporter):
    """What tests with the marker ``gpu`` measured, as a table."""
    reports = terminalreporter.stats.get("passed", [])
    rows = [row for r in reports for name, row in r.user_properties if name == GPU_ROW]
    if rows:
        terminalreporter.section("on the GPU, host to host")
        for row in rows:
            terminalreporter.write_line("  ".join(f"{word}: {value}" for word, value in row))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of the tiny task, its weights trained; copy it before writing to it."""
    folder = tmp_path_factory.mktemp("tiny")
    for name in ("task.py", "space.yaml"):
        shutil.copy(TINY / name, folder)
    spec = importlib.util.spec_from_file_location("tiny_task", folder / "task.py")
    task = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(task)
    task.train(folder / "teacher.pt")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny):
    """The tiny task's model as a value."""
    factory = CodeRef(str(tiny / "task.py"), "build_model")
    return ModelSource(factory, {"width": 16}, str(tiny / "teacher.pt"))


@pytest.fixture(scope="session")
def tiny_taken(tiny, tiny_model, tmp_path_factory):
    """The tiny task taken in: a store that holds its model and data, its subject, its facts."""
    store = Store(tmp_path_factory.mktemp("taken") / "store")
    process = intake.start(tiny_model, CodeRef(str(tiny / "task.py"), "data"), METRICS, store.root)
    subject, facts = intake.finish(process, seed=0)
    return store, subject, facts


@pytest.fixture(scope="session")
def target():
    """This machine with one lane of one core."""
    return Target("local", 1, 1, 0.1, hardware.machine())


@pytest.fixture(scope="module")
def local_ray(target):
    """A local Ray, as a run starts it; it keeps off the lane. Workers find ``engine_stages``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "engine"))
        with cluster([target]) as where:
            yield where
