"""The reference work and what is kept of its time."""

import json
import time

import numpy as np
import pytest

from autotune.measure import reference
from autotune.measure.reference import Disturbance, Watch, remember, watch


def test_the_work_is_the_same_every_time_and_short():
    assert reference.work() == reference.work()
    fastest = min(reference.burst() for _ in range(5))
    assert 0.05 < fastest < 5


def test_a_probe_lasts_about_as_long_as_it_is_told():
    begin = time.perf_counter()
    found = reference.probe(0.1)
    assert 0.1 <= time.perf_counter() - begin < 2
    assert found > 0.05


def test_both_sides_of_a_block_count():
    assert Disturbance(1.0, 1.2, 1.0, 0.0).reference == pytest.approx(1.1)
    assert Disturbance(1.2, 1.0, 1.0, 0.0).counts
    assert Disturbance(1.0, 1.0, 1.0, 0.1).counts
    assert not Disturbance(1.07, 1.07, 1.0, 0.02).counts
    assert not Disturbance(1.0, 1.0, 1.0, None).counts


@pytest.mark.parametrize(("bursts", "seen"), [([1.0], 1.0), ([2.0, 1.0], 1.0), ([2.0, 1.5], 1.5)])
def test_a_slow_burst_is_taken_a_second_time(bursts, seen):
    left = iter(bursts)
    assert Watch(1.0, burst=lambda: next(left)).look() == seen
    assert next(left, None) is None


def test_what_earlier_measurements_saw_is_known_without_a_probe(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "reference.json"
    for ms in (1.0, 1.1, 3.0, 1.2):  # one of them was disturbed throughout
        remember(path, [ms, ms, 9 * ms, 9 * ms, ms])
    monkeypatch.setattr(reference, "probe", lambda: pytest.fail("the time is known"))
    assert watch(path).undisturbed_ms == pytest.approx(np.quantile([1.0, 1.1, 1.2, 3.0], 0.25))
    assert len(json.loads(path.read_text())) == 4


def test_a_single_earlier_measurement_is_held_against_a_probe(tmp_path, monkeypatch):
    path = tmp_path / "reference.json"
    remember(path, [1.0])
    monkeypatch.setattr(reference, "probe", lambda: 2.0)
    assert watch(path).undisturbed_ms == 1.0
    monkeypatch.setattr(reference, "probe", lambda: 0.5)
    assert watch(path).undisturbed_ms == 0.5


def test_only_the_last_hundred_of_the_last_hour_are_kept(tmp_path):
    path = tmp_path / "reference.json"
    now = time.time()
    old = [[now - 2 * reference.KEPT_S, 0.1]] * 5
    path.write_text(json.dumps([*old, *[[now, 1.0]] * 150]))
    remember(path, [1.0])
    kept = json.loads(path.read_text())
    assert len(kept) == 100
    assert all(ms == 1.0 for _, ms in kept)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '[["a", 1]]', "3", "[[1e18, 1.0]]"])
def test_a_damaged_file_counts_as_none(tmp_path, monkeypatch, text):
    path = tmp_path / "reference.json"
    path.write_text(text)
    monkeypatch.setattr(reference, "probe", lambda: 0.7)
    assert watch(path).undisturbed_ms == 0.7
    remember(path, [1.0])
    assert [ms for _, ms in json.loads(path.read_text())] == [1.0]


def test_where_nothing_can_be_kept_every_measurement_probes(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "reference.json"
    remember(path, [1.0])
    remember(tmp_path / "none.json", [])
    assert not (tmp_path / "none.json").exists()
    monkeypatch.setattr(reference, "probe", lambda: 0.7)
    assert watch(path).undisturbed_ms == 0.7
