"""The machine as a clock: its noise, measured on a lane, and what a doctor says of it."""

import dataclasses

import pytest

from autotune import hardware
from autotune.engine import doctor, noise
from autotune.errors import MachineError
from autotune.target import Machine, Target

CALM = noise.Noise((3,), p50_ms=0.2, p95_ms=0.21, waited=0.001, steal=0.0)


def test_the_work_is_timed_on_the_lane(target):
    found = noise.noise(target, seconds=0.2)
    assert found.cores == target.lane(0)
    assert 0 < found.p50_ms <= found.p95_ms < 1e3
    assert found.waited is None or found.waited >= 0
    assert found.steal is None or 0 <= found.steal <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"p95_ms": 0.4}, "2.00 times its median"),
        ({"waited": 0.2}, "20.0% of the time another process"),
        ({"steal": 0.1}, "10.0% of the time the machine's host"),
    ],
)
def test_a_warning_has_its_figure(change, words):
    assert not CALM.warnings()
    (told,) = dataclasses.replace(CALM, **change).warnings()
    assert words in told


def test_what_the_kernel_does_not_tell_is_no_warning():
    assert not dataclasses.replace(CALM, waited=None, steal=None).warnings()


def test_a_machine_without_such_a_core_is_told():
    nowhere = Target("local", 1, 1, None, Machine("imagined", (), (9999,), 2**30))
    with pytest.raises(MachineError, match="the machine's noise could not be measured"):
        noise.noise(nowhere, seconds=0.1)


def test_a_quick_examination_runs_nothing():
    found = list(doctor.examine(quick=True))
    assert {type(one).__name__ for one in found} == {"Here", "Plugin"}
    here = found[0]
    assert here.machine == hardware.machine()
    assert set(here.lane) <= set(here.machine.cores)
    assert here.gpus or here.no_gpu


def test_a_part_that_cannot_be_had_is_told_and_the_rest_goes_on(monkeypatch):
    def no_noise(*_, **__):
        raise MachineError("no", remedy="another machine")

    monkeypatch.setattr(doctor, "noise", no_noise)
    monkeypatch.setattr(doctor, "probe", lambda _: iter(()))
    found = [one for one in doctor.examine(quick=False) if isinstance(one, doctor.Missed)]
    assert found == [doctor.Missed("noise", "no\n  another machine")]
