"""The machine as found, pinning, and lanes that nobody shares."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace

import pytest

from autotune import hardware
from autotune.errors import MachineError
from autotune.target import Machine, Target

CORES = tuple(sorted(os.sched_getaffinity(0)))


def wide(lane_cores, lanes, cores=(91, 92, 93, 94)):
    """A target of imagined cores, so that no test waits for a real measurement."""
    return Target("local", lane_cores, lanes, None, Machine("imagined", (), cores, 2**30))


def test_the_machine_is_this_one():
    found = hardware.machine()
    assert found.cores == CORES
    assert found.cpu
    assert found.memory_bytes > 2**28
    assert list(found.flags) == sorted(found.flags)
    assert found == hardware.machine()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [((), False), (("avx512f", "amx_tile"), False), (("avx512_bf16",), True),
     (("amx_bf16",), True), (("bf16",), True)],
)  # fmt: skip
def test_bf16_needs_an_instruction_for_it(flags, expected):
    assert hardware.bf16_kernels(Machine("imagined", flags, (0,), 2**30)) is expected


PINNED = """
import os, threading, time
from autotune.hardware import pin
ready = threading.Event()
seen = {}
def early():
    ready.wait()
    seen["early"] = os.sched_getaffinity(0)
thread = threading.Thread(target=early); thread.start()
core = min(os.sched_getaffinity(0))
pin([core])
ready.set(); thread.join()
late = threading.Thread(target=lambda: seen.update(late=os.sched_getaffinity(0)))
late.start(); late.join()
seen["main"] = os.sched_getaffinity(0)
print(all(cores == {core} for cores in seen.values()), len(seen))
"""


def test_every_thread_is_pinned_early_ones_and_later_ones():
    done = subprocess.run(
        [sys.executable, "-c", PINNED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "3"]


def test_a_lane_wider_than_the_machine_is_the_users_to_mend():
    message = "asks for 5 cores, this machine offers 4"
    with pytest.raises(MachineError, match=message) as caught, hardware.lane(wide(5, 1)):
        pass
    assert caught.value.remedy == "lower targets.local.lane_cores to 4 or less"


def test_lanes_are_taken_one_after_the_other():
    target = wide(2, 2)
    with hardware.lane(target) as one, hardware.lane(target) as two:
        assert {one, two} == {(91, 92), (93, 94)}


def test_who_waits_for_a_lane_says_for_whom_and_when_it_is_over():
    told = []
    with hardware.lane(wide(1, 1), told.append):
        waited = taken_beside(wide(1, 1), told.append)
        assert waited.is_alive()
        assert told == [
            f"waiting for the lane: another run measures (process {os.getpid()}); "
            "the time budget runs on"
        ]
    waited.join(10)
    assert told[1:] == [""]


def test_lanes_that_the_machine_does_not_have_are_not_given():
    target = wide(3, 2)
    with hardware.lane(target) as one:
        waited = taken_beside(target)
        assert waited.is_alive()
        assert one == (92, 93, 94)
    waited.join(10)
    assert waited.cores == (92, 93, 94)


def taken_beside(target, tell=lambda _: None):
    """A thread that takes a lane; after a moment it has one, or it waits."""

    def take():
        with hardware.lane(target, tell) as cores:
            thread.cores = cores

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    time.sleep(0.3)
    return thread


@pytest.mark.parametrize(("ours", "theirs"), [((1, 1), (2, 1)), ((2, 1), (1, 1)), ((2, 1), (4, 1))])
def test_lanes_of_different_widths_take_turns(ours, theirs):
    with hardware.lane(wide(*ours)):
        waited = taken_beside(wide(*theirs))
        assert waited.is_alive()
    waited.join(10)
    assert not waited.is_alive()


def test_a_lane_of_a_process_that_was_killed_is_free():
    code = (
        "import sys; from autotune import hardware; from autotune.target import *;"
        "t = Target('x', 1, 1, None, Machine('m', (), (95,), 1));"
        "lane = hardware.lane(t); lane.__enter__(); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    waited = taken_beside(wide(1, 1, cores=(95,)))
    assert waited.is_alive()
    process.kill()
    process.communicate()
    waited.join(10)
    assert waited.cores == (95,)


def test_lanes_and_preparing_cores_are_apart_and_cover_the_machine():
    for lane_cores, lanes in [(1, 1), (1, 2), (2, 1), (1, 3)]:
        target = wide(lane_cores, lanes)
        cut = [set(target.lane(i)) for i in range(lanes)]
        assert sum(len(c) for c in cut) == lane_cores * lanes
        assert set.union(*cut) | set(target.preparing) == set(target.machine.cores)
        assert not set.union(*cut) & set(target.preparing)
        assert not target.shared
    full = wide(4, 1)
    assert full.shared
    assert full.preparing == full.machine.cores == full.lane(0)


def test_a_lane_is_charged_its_share():
    assert replace(wide(1, 1), price_per_hour=0.4).lane_price_per_hour == pytest.approx(0.1)
    assert wide(1, 1).lane_price_per_hour is None


def test_a_file_where_the_locks_should_be(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"autotune-lanes-{os.getuid()}").touch()
    with pytest.raises(MachineError, match="File exists") as caught, hardware.lane(wide(1, 1)):
        pass
    assert caught.value.place == str(tmp_path / f"autotune-lanes-{os.getuid()}")


def test_the_instruction_sets_are_told_by_the_processors_flags():
    flags = ("amx_tile", "avx2", "avx512_vnni", "avx512f")
    found = hardware.instruction_sets(Machine("imagined", flags, (0,), 2**30))
    assert {word for word, there in found.items() if there} == {"AVX2", "AVX-512", "VNNI", "AMX"}
    assert not any(hardware.instruction_sets(Machine("imagined", (), (0,), 2**30)).values())


def test_the_condition_is_what_the_kernel_tells():
    found = hardware.condition(CORES)
    assert found.load is None or found.load >= 0.0
    assert 0.0 <= (found.steal or 0.0) < 1.0
    assert all(word.isalpha() for word in found.governors)
    assert hardware.condition([9999]).steal is None


def test_steal_is_counted_from_the_beginning_of_the_watch(tmp_path, monkeypatch):
    """Core 7 had 10 ticks stolen of 100, then 5 more of 20; core 8 is another's."""
    stat = tmp_path / "stat"
    stat.write_text("cpu 1 1 1\ncpu7 50 0 10 30 0 0 0 10 9 0\ncpu8 1 1 1 1 1 1 1 1 0 0\n")
    monkeypatch.setattr("autotune.hardware.state._STAT", stat)
    told = hardware.steal([7])
    assert told() is None
    assert hardware.condition([7]).steal == pytest.approx(0.1)
    stat.write_text("cpu 1 1 1\ncpu7 55 0 10 40 0 0 0 15 9 0\ncpu8 1 1 1 1 1 1 1 99 0 0\n")
    assert told() == pytest.approx(5 / 20)
    stat.unlink()
    assert told() is None
