"""What each backend really runs, and what becomes of one that crashes or hangs."""

import itertools
import time

import pytest

from autotune import hardware, plugins
from autotune.contracts import PRECISIONS
from autotune.engine.probing import Probe, _defaults, _tried, probe
from autotune.target import Target
from autotune.task import CodeRef, ModelSource

THEIRS = """
import ctypes, time
from contextlib import contextmanager
from autotune.backends import torch as real
from autotune.contracts import Rejection

summary = "hangs at bf16, kills the process at int8"
libraries = ("torch",)
unavailable = real.unavailable

def parameters():
    return ()

def reject(settings, target, model):
    if settings["precision"] in ("fp32", "bf16", "int8"):
        return None
    return Rejection("never", "this is an example")

def depends_on_batch(settings):
    return False

def stages(settings, model, data):
    return model

@contextmanager
def open(artifact, settings, batch, threads):
    if settings["precision"] == "bf16":
        ctypes.PyDLL(None).sleep(600)
    if settings["precision"] == "int8":
        ctypes.string_at(0)
    with real.open(artifact, {**settings, "torch.channels_last": False}, batch, threads) as found:
        yield found
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A third party's backend, the only one that this process knows; its children know all."""
    (tmp_path / "theirs.py").write_text(THEIRS)
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[autotune.backends]\ntheirs = theirs\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "names", lambda kind: ("theirs",))


def here():
    machine = hardware.machine()
    return Target("local", hardware.usual_lane(machine), 1, None, machine)


@pytest.mark.slow
@pytest.mark.usefixtures("theirs")
def test_a_crash_and_a_hang_cost_a_line_each():
    found = {one.precision: one for one in probe(here(), most_s=300, stage_s=25)}
    assert found["fp32"].verdict == "runs", found["fp32"].reason
    assert set(found["fp32"].kernels) == {"fp32"}
    assert (found["bf16"].verdict, found["bf16"].reason) == (
        "fails",
        "one stage took longer than 25 s",
    )
    assert (found["int8"].verdict, found["int8"].reason) == (
        "fails",
        "the process was killed by SIGSEGV",
    )
    rest = set(PRECISIONS) - {"fp32", "bf16", "int8"}
    assert {word for word, one in found.items() if one.verdict == "rejected"} == rest


@pytest.mark.slow
def test_what_runs_runs_in_the_precision_asked_for():
    found = list(probe(here(), most_s=300, stage_s=120))
    usable = [n for n in plugins.names("backends") if not plugins.load("backends", n).unavailable()]
    assert [(one.backend, one.precision) for one in found if one.verdict == "not tried"] == []
    assert {(one.backend, one.precision) for one in found} == set(
        itertools.product(usable, PRECISIONS)
    )
    for one in found:
        assert (one.verdict == "runs") == bool(one.kernels) != bool(one.reason)
        if one.verdict == "runs":
            assert 2 * one.kernels[one.precision] >= sum(one.kernels.values())
    assert {one.backend for one in found if one.verdict == "runs"} == set(usable)


def test_what_there_is_no_time_for_is_said_not_to_be_tried(tmp_path):
    found = list(_tried({"backend": "torch"}, ["fp32", "bf16"], tmp_path, time.monotonic() - 1))
    assert found == [Probe("torch", w, "not tried", "the time was up") for w in ("fp32", "bf16")]


@pytest.mark.parametrize("name", plugins.names("backends"))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_backends_defaults_are_a_configuration_that_it_can_judge(name, precision):
    point = _defaults(name, precision)
    assert point["precision"] == precision
    assert ("ptq.samples" in point) == (precision in ("int8", "fp8"))
    backend, model = plugins.load("backends", name), ModelSource(CodeRef("task.py", "build"))
    said = backend.reject(point, here(), model)
    assert said is None or said.reason
