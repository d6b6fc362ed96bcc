"""Energy of the processor: told where the kernel counts it and nobody else used the processor."""

import time

import numpy as np
import pytest

from autotune.engine import usage
from autotune.hardware import rapl, state

BATCH = {"x": np.ones((4, 3), np.float32)}


@pytest.fixture
def zone(tmp_path, monkeypatch):
    """A package of 1000 mJ, a part of it, and what is no processor."""
    monkeypatch.setattr(rapl, "ROOT", tmp_path)
    for name, word in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("dtpm", "cpu")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(f"{word}\n")
        (tmp_path / name / "energy_uj").write_text("1000000\n")
        (tmp_path / name / "max_energy_range_uj").write_text("5000000\n")
    return tmp_path / "intel-rapl:0"


@pytest.fixture
def spends(zone, monkeypatch):
    """A model that takes 2 mJ a request; the cores beside it are as busy as is said."""

    def run(batch):
        now = int((zone / "energy_uj").read_text())
        (zone / "energy_uj").write_text(str(now + 2000))
        time.sleep(0.001)
        return batch["x"]

    def columns(busy):
        monkeypatch.setattr(state, "busy_beside", lambda cores: lambda: busy)
        return usage.columns(None, run, [BATCH], cores=(1,))

    return columns


def test_the_packages_energy_is_told_for_each_sample(spends):
    found = spends(busy=0.01)
    assert found == {"energy_mj_per_sample": {"value": pytest.approx(0.5)}}


@pytest.mark.parametrize("busy", [0.2, None])
def test_a_processor_that_others_used_tells_nothing_of_a_model(spends, busy):
    assert spends(busy) == {}


def test_a_machine_without_counters_measures_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rapl, "ROOT", tmp_path)
    assert usage.columns(None, lambda _: pytest.fail("for nothing"), [BATCH], (1,)) == {}


def test_parts_of_a_package_do_not_count_twice_and_counters_begin_anew(zone):
    before = rapl.read()
    assert list(before) == [zone]
    (zone / "energy_uj").write_text("400000")
    assert rapl.spent_mj(before, rapl.read()) == 4400
    assert rapl.spent_mj(before, {}) is None
    assert rapl.spent_mj({}, {}) is None


def test_the_cores_beside_are_told_apart_from_the_lane(tmp_path, monkeypatch):
    def tell(lane, other):
        rows = [f"cpu{core} {busy} 0 0 {idle} 0 0 0 0 0 0" for core, busy, idle in (lane, other)]
        whole = ["cpu 9 9 9 9 9 9 9 9 9 9", *rows, "intr 5 9 9 9 9 9 9 9 9"]
        (tmp_path / "stat").write_text("\n".join(whole))

    monkeypatch.setattr(state, "_STAT", tmp_path / "stat")
    tell((0, 100, 100), (1, 100, 100))
    share = state.busy_beside([0])
    tell((0, 200, 100), (1, 110, 190))
    assert share() == pytest.approx(0.1)
    alone = state.busy_beside([0, 1])
    assert alone() == 0
    monkeypatch.setattr(state, "_STAT", tmp_path / "none")
    assert state.busy_beside([0])() is None
