"""What a run loses when its driver or a worker is killed: the trials in flight, and no more."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import autotune
from autotune.store import content, journal
from autotune.store.artifacts import Store

SCRIPT = Path(__file__).with_name("searching.py")


@pytest.fixture
def begin():
    """Starts runs as processes of their own; what a failed test leaves of them is ended."""
    begun = []

    def start(space, out):
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(space), str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def learning(tiny, tmp_path):
    """The tiny task where every trial but the baselines needs a student that learns for long."""
    shutil.copytree(tiny, tmp_path / "learning")
    space = tmp_path / "learning" / "space.yaml"
    text = space.read_text().replace("width: [16, 8]", "width: 8")
    space.write_text(text.replace("distill: {epochs: 2}", "distill: {epochs: 150}"))
    return space


def wait_for(process, moment):
    """Read what the run tells until ``moment`` of (trials ended, stages under way) is true."""
    for line in process.stdout:
        words = line.split()
        if words[:1] == ["ended"] and moment(int(words[1]), words[4:]):
            return
        assert words[:1] != ["why"], "the run ended before the moment came"
    raise AssertionError(process.stderr.read())


def family(process):
    return psutil.Process(process.pid).children(recursive=True)


def left(processes, seconds=30):
    """What still runs of them. Ray's two agents notice a dead parent within a minute or so."""
    working = [p for p in processes if "Agent" not in name(p)]
    assert working
    _, alive = psutil.wait_procs(working, timeout=seconds)
    return [name(p) for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def events(out, word):
    return [e for e in journal.read(out / "journal.jsonl") if e["event"] == word]


@pytest.mark.slow
def test_a_driver_killed_before_a_trial_has_ended(tiny, tmp_path, begin):
    trials = killed_and_continued(
        begin, tiny / "space.yaml", tmp_path / "run", lambda ended, stages: ended == 0 and stages
    )
    assert all(trial.outcome is not None for trial in trials)


@pytest.mark.slow
def test_a_driver_killed_while_a_student_learns(learning, tmp_path, begin):
    trials = killed_and_continued(
        begin, learning, tmp_path / "run", lambda ended, stages: "distill" in stages
    )
    assert any("distill" in trial.stage_seconds for trial in trials)


@pytest.mark.slow
def test_a_driver_killed_after_four_trials(tiny, tmp_path, begin):
    trials = killed_and_continued(
        begin, tiny / "space.yaml", tmp_path / "run", lambda ended, stages: ended >= 4
    )
    assert all(trial.outcome is not None for trial in trials)


def killed_and_continued(begin, space, out, moment):
    """Kill a run at a moment and continue it: only what was in flight is lost."""
    process = begin(space, out)
    wait_for(process, moment)
    helpers = family(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert left(helpers) == []
    ended = {e["number"]: e for e in events(out, "outcome")}
    begun = {e["number"]: e for e in events(out, "trial")}
    store = Store(out / "store")
    kept = {key: (out / "store" / key[:2] / key / content.META).stat() for key in set(store.keys())}

    found = autotune.run(space, out=out)

    assert found.why == "budget"
    trials = found.data.trials
    finished = [t for t in trials if t.outcome is not None]
    assert len(finished) == 8
    assert [t.outcome.reason for t in finished if t.outcome.word == "failed"] == []
    assert len({t.configuration.key for t in finished}) == 8
    again = events(out, "outcome")
    assert len(again) == len({e["number"] for e in again}) == 8
    assert {n: e for n, e in ((e["number"], e) for e in again) if n in ended} == ended
    asked = {e["number"]: e["settings"] for e in events(out, "trial")}
    assert all(asked[n] == e["settings"] for n, e in begun.items())
    for key, stat in kept.items():
        now = (out / "store" / key[:2] / key / content.META).stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert all(content.intact(store.open(key)) for key in set(store.keys()))
    assert list((out / "store" / "tmp").glob("*")) == []
    assert (out / "report.html").stat().st_size > 10_000
    return trials


@pytest.mark.slow
def test_an_interrupt_stops_cleanly_with_the_report(tiny, tmp_path, begin):
    out = tmp_path / "run"
    process = begin(tiny / "space.yaml", out)
    wait_for(process, lambda ended, stages: ended >= 2)
    helpers = family(process)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert time.monotonic() - begun < 30
    assert said.splitlines()[-1] == "why interrupted"
    assert left(helpers) == []
    assert (out / "report.html").stat().st_size > 10_000
    assert events(out, "close")[-1]["why"] == "interrupted"
    assert "Traceback" not in errors
    table = autotune.Run(out).trials
    assert (table["outcome"] == "completed").sum() >= 2
    assert json.loads(json.dumps(autotune.Run(out).data.summary))["why"] == "interrupted"


@pytest.mark.slow
def test_a_worker_killed_during_a_run_costs_what_needed_it(tiny, tmp_path, begin):
    out = tmp_path / "run"
    process = begin(tiny / "space.yaml", out)
    wait_for(process, lambda ended, stages: "latency" in stages)
    deadline = time.monotonic() + 60
    victim = None
    while victim is None and time.monotonic() < deadline:
        victim = next((p for p in family(process) if "ray::latency" in name(p)), None)
    assert victim is not None
    victim.kill()
    said, errors = process.communicate(timeout=240)
    assert said.splitlines()[-1] == "why budget", errors
    found = autotune.Run(out).data.trials
    failed = [t.outcome for t in found if t.outcome.word == "failed"]
    assert len(failed) <= 2
    assert all(o.reason.startswith("latency: the worker process crashed") for o in failed)
    assert sum(t.outcome.word == "completed" for t in found) >= 6


def name(process):
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
