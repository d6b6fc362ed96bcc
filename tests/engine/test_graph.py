"""The memoised graph on a real local Ray: once each, and one worker's death is one stage's."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from engine_stages import stage

from autotune.engine.graph import Graph
from autotune.store.artifacts import Store


@pytest.fixture
def graph(local_ray, target, tmp_path):
    return Graph(Store(tmp_path / "store"), local_ray, {"local": target})


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger"


def end(graph, *handles, seconds=60):
    """Step until every handle has its result."""
    deadline = time.monotonic() + seconds
    while any(h.result is None for h in handles):
        assert time.monotonic() < deadline, "the graph does not end"
        graph.step(0.2)
    return [h.result for h in handles]


def ran(ledger):
    return ledger.read_text().split() if ledger.exists() else []


def test_a_stage_runs_once_however_many_ask(graph, ledger):
    first = stage("count", ledger=str(ledger), sleep=0.3)
    left = stage("count", first, ledger=str(ledger), add=10)
    right = stage("count", first, ledger=str(ledger), add=100)
    both = stage("count", left, right, ledger=str(ledger))
    again = stage("count", first, ledger=str(ledger), add=10)
    handles = [graph.submit(s) for s in (both, left, right, again)]
    assert graph.submit(again) is graph.submit(left)
    assert {h.stage.name for h in graph.under_way()} == {"count"}
    results = end(graph, *handles)
    assert [r.error for r in results] == [""] * 4
    assert len(ran(ledger)) == len(set(ran(ledger))) == 4
    folder = graph.store.open(both.key)
    assert (folder / "value").read_text() == str(11 + 101 + 1)
    assert graph.executed == {"count": 4}
    assert end(graph, graph.submit(both))[0].key == both.key
    assert len(ran(ledger)) == 4


def test_what_the_store_holds_is_found_by_another_graph(graph, ledger, local_ray, target):
    wanted = stage("count", stage("count", ledger=str(ledger)), ledger=str(ledger), add=3)
    assert graph.pending(wanted)
    end(graph, graph.submit(wanted))
    other = Graph(graph.store, local_ray, {"local": target})
    assert not other.pending(wanted)
    handle = other.submit(wanted)
    assert handle.result.ok
    assert not handle.result.executed
    assert not other.executed
    assert len(ran(ledger)) == 2
    assert other.stage_seconds(wanted.chain())["count"] > 0


def test_a_corrupt_artifact_is_made_again(graph, ledger, local_ray, target):
    wanted = stage("count", ledger=str(ledger), add=7)
    end(graph, graph.submit(wanted))
    file = graph.store.open(wanted.key) / "value"
    file.write_text("8")
    link = graph.store.root.with_name("again")  # another name: nothing about it is remembered
    link.symlink_to(graph.store.root)
    other = Graph(Store(link), local_ray, {"local": target})
    assert end(other, other.submit(wanted))[0].executed
    assert file.read_text() == "7"
    assert len(ran(ledger)) == 2


def test_a_stage_prepares_off_the_lane(graph, ledger, target):
    result = end(graph, graph.submit(stage("count", ledger=str(ledger), add=5)))[0]
    assert set(result.facts["cores"]) <= set(target.preparing)


@pytest.mark.parametrize(
    ("function", "error", "trace"),
    [
        ("refuse", "the network cannot be pruned", ""),
        ("bug", "ZeroDivisionError: integer division or modulo by zero", "return {"),
        ("infinite", "ValueError", "Traceback"),
        ("absent", "AttributeError: module 'engine_stages' has no attribute 'absent'", "Traceback"),
    ],
)
def test_a_stage_that_fails_says_why_to_all_that_need_it(graph, ledger, function, error, trace):
    broken = stage(function)
    below = stage("count", broken, ledger=str(ledger))
    beside = stage("count", ledger=str(ledger), add=4)
    ours, theirs, other = end(graph, *(graph.submit(s) for s in (broken, below, beside)))
    assert ours.error.startswith(error)
    assert (theirs.stage, theirs.key, theirs.error) == (function, broken.key, ours.error)
    assert trace in ours.traceback
    assert bool(trace) == bool(ours.traceback)
    assert not ours.fatal
    assert other.ok
    assert not graph.store.has(broken.key)
    assert ran(ledger) == [beside.key]


def test_a_crash_fails_only_what_needs_it(graph, ledger):
    broken = stage("segfault")
    below = stage("count", stage("count", broken, ledger=str(ledger)), ledger=str(ledger), add=2)
    beside = stage("count", ledger=str(ledger), sleep=0.5)
    result, other = end(graph, graph.submit(below), graph.submit(beside))
    assert result.stage == "segfault"
    assert result.error.startswith("the worker process crashed (")
    assert "os._exit" in result.error
    assert result.key == broken.key
    assert other.ok
    assert ran(ledger) == [beside.key]


def test_a_worker_killed_from_outside_fails_only_its_stage(graph, ledger, tmp_path):
    file = tmp_path / "pid"
    victim = graph.submit(stage("pid", file=str(file)))
    beside = graph.submit(stage("count", ledger=str(ledger)))
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
        graph.step(0.05)
    os.kill(int(file.read_text()), signal.SIGKILL)
    result, other = end(graph, victim, beside)
    assert result.stage == "pid"
    assert result.error.startswith("the worker process crashed")
    assert other.ok


def test_a_stage_whose_worker_died_can_be_tried_again(graph, ledger, tmp_path):
    once = stage("die_once", marker=str(tmp_path / "marker"))
    below = stage("count", once, ledger=str(ledger))
    first = end(graph, graph.submit(below))[0]
    assert first.error.startswith("the worker process crashed")
    second = end(graph, graph.submit(below))[0]
    assert second.ok
    assert (graph.store.open(below.key) / "value").read_text() == "2"


def test_a_hang_in_c_is_ended_at_its_time(graph, ledger):
    hanging = stage("hang", timeout_s=1.0)
    belows = [stage("count", hanging, ledger=str(ledger), add=i) for i in range(3)]
    begun = time.monotonic()
    results = end(graph, *(graph.submit(s) for s in belows))
    assert time.monotonic() - begun < 15
    assert {r.error for r in results} == {"took longer than 1 s and was ended"}
    assert {r.stage for r in results} == {"hang"}


def test_what_a_stage_prints_is_kept_out_of_sight_and_in_its_result(graph, capfd):
    result = end(graph, graph.submit(stage("chatter")))[0]
    assert {"said by Python", "said by a library", "said by C"} <= set(result.log.splitlines())
    assert "said by" not in "".join(capfd.readouterr())


def test_a_full_disk_is_fatal_and_leaves_nothing_half_written(local_ray, target, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        graph = Graph(Store(folder / "store"), local_ray, {"local": target})
        for hidden in (False, True):
            full = stage("fill", hidden=hidden)
            result = end(graph, graph.submit(full))[0]
            assert result.fatal
            assert "the disk is full" in result.error
            assert "--store" in result.error
            assert not graph.store.has(full.key)
        assert list((folder / "store" / "tmp").iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


OTHER = """
import sys; sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from autotune.engine import execute
from engine_stages import stage
print("ready", flush=True); sys.stdin.readline()
result = execute.run(stage("count", ledger=sys.argv[2], sleep=0.5), sys.argv[3], None, False)
print(result.ok, result.executed, flush=True)
"""


def test_two_processes_that_need_a_stage_run_it_once(tmp_path, ledger):
    code = [sys.executable, "-c", OTHER, str(Path(__file__).parent), str(ledger), str(tmp_path)]
    processes = [
        subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    said = [process.communicate("go\n")[0].split() for process in processes]
    assert sorted(said) == [["True", "False"], ["True", "True"]]
    assert len(ran(ledger)) == 1


def test_two_lane_stages_never_overlap(graph):
    spans = [stage("span", lane="local", sleep=0.3, n=n) for n in range(3)]
    found = sorted((r.facts["begun"], r.facts["ended"]) for r in run_all(graph, spans))
    for (_, ended), (begun, _) in itertools.pairwise(found):
        assert ended <= begun


def test_a_lane_stage_and_a_preparing_one_run_beside_each_other(graph, target):
    if target.shared:
        pytest.skip("needs a core beside the lane")
    pair = [stage("span", lane="local", sleep=0.8, n=9), stage("span", sleep=0.8, n=9)]
    one, two = run_all(graph, pair)
    assert max(one.facts["begun"], two.facts["begun"]) < min(one.facts["ended"], two.facts["ended"])


def test_where_the_lane_takes_every_core_they_take_turns(local_ray, target, tmp_path):
    alone = replace(target, machine=replace(target.machine, cores=target.machine.cores[:1]))
    assert alone.shared
    graph = Graph(Store(tmp_path / "store"), local_ray, {"local": alone})
    pair = [stage("span", lane="local", sleep=0.4, n=1), stage("span", sleep=0.4, n=2)]
    one, two = sorted((r.facts["begun"], r.facts["ended"]) for r in run_all(graph, pair))
    assert one[1] <= two[0]


def run_all(graph, stages):
    """All of them at once, their workers already up."""
    end(graph, *(graph.submit(replace(s, parameters={"sleep": 0, "n": -1 - i}))
                 for i, s in enumerate(stages)))  # fmt: skip
    results = end(graph, *(graph.submit(s) for s in stages))
    assert all(r.ok for r in results)
    return results


def test_a_stage_under_way_tells_how_far_it_is(graph, tmp_path):
    told = stage("tell", name="distill", go=str(tmp_path / "go"))
    left = graph.store.root / "scratch" / told.key / "progress.txt"
    left.parent.mkdir(parents=True)
    left.write_text("epoch 9 of 10")
    os.utime(left, (time.time() - 60,) * 2)  # by a session that was killed
    handle = graph.submit(told)
    said = set()
    deadline = time.monotonic() + 60
    while not graph.progress() and time.monotonic() < deadline:
        said |= set(graph.progress())
        graph.step(0.05)
    assert said <= {"distill: epoch 3 of 10, loss 0.12, 8 s left"}
    assert graph.progress() == ["distill: epoch 3 of 10, loss 0.12, 8 s left"]
    (tmp_path / "go").touch()
    assert end(graph, handle)[0].ok
    assert graph.progress() == []


def test_a_cancelled_stage_is_given_up(graph, tmp_path):
    # the last one here: Ray now and then loses the core of a task that is cancelled as it begins
    waiting = stage("pid", file=str(tmp_path / "pid"))
    handle = graph.submit(waiting)
    graph.cancel(handle)
    assert handle.result.error == "cancelled"
    assert graph.under_way() == []
    assert graph.pending(waiting)
