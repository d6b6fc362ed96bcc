"""The journal keeps what it promised, whatever happens to its file."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.errors import RunFolderError
from autotune.store.journal import Journal, read

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=4)


def written(path: Path, events: list[dict]) -> bytes:
    with Journal(path) as journal:
        for event in events:
            journal.append(event)
    return path.read_bytes()


@given(events=EVENTS)
@settings(max_examples=50)
def test_what_is_read_is_what_was_appended(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("run") / "journal.jsonl"
    written(path, events)
    assert read(path) == events


@given(events=EVENTS, data=st.data())
@settings(max_examples=100)
def test_a_file_cut_anywhere_holds_a_prefix_and_goes_on(tmp_path_factory, events, data):
    path = tmp_path_factory.mktemp("run") / "journal.jsonl"
    whole = written(path, events)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    left = read(path)
    assert left == events[: whole[:cut].count(b"\n")]
    with Journal(path) as journal:
        journal.append({"after": cut})
    assert read(path) == [*left, {"after": cut}]


@given(data=st.data())
@settings(max_examples=100)
def test_one_changed_byte_is_never_read_as_an_event(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("run") / "journal.jsonl"
    events = [{"trial": 0, "p50": 1.25}, {"trial": 1, "p50": 2.5}, {"trial": 2}]
    whole = bytearray(written(path, events))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    line = bytes(whole[:place]).count(b"\n") + 1
    if line < bytes(whole).count(b"\n"):
        with pytest.raises(RunFolderError) as caught, Journal(path):
            pass
        assert caught.value.place == f"{path}:{line}"
    else:  # damage at the end cannot be told from a torn line
        assert read(path) == events[: line - 1]


def test_a_last_line_of_zeros_is_a_torn_one(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(written(path, [{"trial": 0}]) + bytes(100))
    assert read(path) == [{"trial": 0}]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_and_leaves_no_trace(tmp_path, number):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append({"trial": 0})
        with pytest.raises(ValueError, match="not JSON compliant"):
            journal.append({"trial": 1, "values": [number]})
    assert read(path) == [{"trial": 0}]


def test_lines_are_json_for_other_tools(tmp_path):
    line = written(tmp_path / "journal.jsonl", [{"name": "ü\n\u2028"}])
    assert json.loads(line)["event"] == {"name": "ü\n\u2028"}
    assert line.count(b"\n") == 1


def test_a_missing_journal_is_said_so(tmp_path):
    with pytest.raises(RunFolderError, match="no journal"):
        read(tmp_path / "journal.jsonl")


def test_appending_needs_an_open_journal(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="not open"):
        journal.append({})


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        with (
            pytest.raises(RunFolderError, match=f"process {os.getpid()} on") as caught,
            Journal(path),
        ):
            pass
        assert "--out" in caught.value.remedy
        journal.append({"still": "works"})
    with Journal(path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["journal.jsonl"]


WRITER = """
import sys
from pathlib import Path
from autotune.store.journal import Journal
with Journal(Path(sys.argv[1])) as journal:
    for number in range(10**9):
        journal.append({"number": number})
        print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_promised_and_frees_the_lock(tmp_path):
    path = tmp_path / "journal.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        promised = [int(writer.stdout.readline()) for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        promised += [int(line) for line in writer.stdout if line.endswith("\n")]
    events = [event["number"] for event in read(path)]
    assert events[: len(promised)] == promised
    assert len(events) <= len(promised) + 1
    with Journal(path) as journal:
        journal.append({"number": "next"})
    assert read(path)[-1] == {"number": "next"}


def _hold(path: Path, seconds: float) -> None:
    with Journal(path):
        time.sleep(seconds)


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
        child.start()
    try:
        with Journal(path) as journal:
            journal.append({"trial": 0})
        assert read(path) == [{"trial": 0}]
    finally:
        child.kill()
        child.join()
