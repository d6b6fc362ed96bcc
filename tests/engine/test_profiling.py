"""A profile is taken once, in a process of its own; what goes wrong is told."""

import dataclasses

import pytest

from autotune.backends import torch as backend
from autotune.engine import lane, profiling
from autotune.errors import MachineError, RunFolderError, StageError, UserError
from autotune.store.artifacts import Store
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import network as networks

SETTINGS = {"precision": "fp32", "torch.channels_last": False, "torch.freeze": False}


@pytest.fixture(scope="module")
def work(tiny_taken):
    _, subject, _ = tiny_taken
    return profiling.Work("torch", SETTINGS, 4, 1, subject.source.key, subject.data.key)


def test_a_profile_is_taken_once_and_adds_up(tiny_taken, work, target, monkeypatch):
    store, *_ = tiny_taken
    profile = profiling.take(work, target, store)
    assert 0 < profile.total_ms <= profile.wall_ms
    assert profile.bare_ms > 0
    assert profile.waited is None or profile.waited >= 0
    assert any(row.operator.startswith("aten::") for row in profile.rows)
    monkeypatch.setattr(lane, "ask", None)
    assert profiling.take(work, target, store) == profile


def test_its_key_holds_what_it_hangs_on(work, target):
    key = profiling.stage(work, target).key
    assert profiling.stage(work, dataclasses.replace(target, price_per_hour=9.0)).key == key
    other = dataclasses.replace(target.machine, cpu="another")
    machines = profiling.stage(work, dataclasses.replace(target, machine=other)).key
    changes = {"batch": 8, "threads": 2, "artifact": "x" * 32, "data": "y" * 32}
    keys = {
        profiling.stage(dataclasses.replace(work, **{k: v}), target).key for k, v in changes.items()
    }
    assert len({key, machines, *keys}) == 2 + len(changes)


def test_an_artifact_that_left_the_store_is_told(work, target, tmp_path):
    with pytest.raises(RunFolderError, match=rf"{work.artifact[:8]} is no longer in the store"):
        profiling.take(work, target, Store(tmp_path))


def test_a_backend_without_a_profiler_is_told(tiny_taken, work, target, monkeypatch):
    monkeypatch.delattr(backend, "profile")
    again = dataclasses.replace(work, batch=5)
    with pytest.raises(UserError, match="'torch' has no profiler"):
        profiling.take(again, target, tiny_taken[0])


def test_a_model_that_ends_its_process_is_told_and_nothing_is_kept(
    work, target, tmp_path, tiny_taken
):
    body = "import os\nfrom torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n"
    (tmp_path / "nets.py").write_text(
        f"{body}        os._exit(7)\ndef build():\n    return Net()\n"
    )
    model = ModelSource(CodeRef(str(tmp_path / "nets.py"), "build"))
    store, key = Store(tmp_path / "store"), "f" * 32
    with store.writing(key) as out:
        networks.save(networks.given(model), Blueprint(), model, out)
        store.commit(key, out, stage="model", seconds=0.0, facts={})
    store.unpack(work.data, tiny_taken[0].pack(work.data))
    broken = dataclasses.replace(work, artifact=key)
    with pytest.raises(StageError, match="ended with exit code 7"):
        profiling.take(broken, target, store)
    assert not store.has(profiling.stage(broken, target).key)


def test_a_machine_that_is_too_small_is_told(tiny_taken, work, target):
    wide = dataclasses.replace(target, lane_cores=4096)
    with pytest.raises(MachineError, match="asks for 4096 cores"):
        profiling.take(dataclasses.replace(work, batch=6), wide, tiny_taken[0])
