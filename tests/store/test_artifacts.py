"""The store: an artifact is there whole and intact, or not at all."""

import io
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.store import Store

KEY, OTHER = "ab" * 16, "cd" * 16


def put(store: Store, key: str, content: bytes = b"weights", **facts: object) -> Path:
    with store.writing(key) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights.bin").write_bytes(content)
        (folder / "notes.txt").write_text("hello")
        return store.commit(key, folder, stage="export", seconds=1.5, facts=facts)


def fresh(store: Store) -> Store:
    """The same store under another name of its folder: nothing about it is remembered."""
    link = store.root.with_name(f"{store.root.name}-{time.monotonic_ns()}")
    link.symlink_to(store.root)
    return Store(link)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_what_was_committed_is_there_with_its_meta(store):
    assert not store.has(KEY)
    assert store.open(KEY) is None
    folder = put(store, KEY, kernels=3)
    assert folder == store.root / KEY[:2] / KEY == store.open(KEY)
    assert store.has(KEY)
    assert (folder / "sub" / "weights.bin").read_bytes() == b"weights"
    meta = store.meta(KEY)
    assert (meta["stage"], meta["seconds"], meta["facts"]) == ("export", 1.5, {"kernels": 3})
    assert set(meta["digests"]) == {"notes.txt", "sub/weights.bin"}
    assert meta["bytes"] == len("weights") + len("hello")
    assert list(store.keys()) == [KEY]


def test_what_was_not_committed_leaves_nothing(store):
    with store.writing(KEY) as folder:
        (folder / "half").write_bytes(b"1")
    assert not store.has(KEY)
    assert store.size_bytes() == 0


def test_an_artifact_may_have_facts_and_no_file(store):
    with store.writing(KEY) as folder:
        store.commit(KEY, folder, stage="latency", seconds=0.1, facts={"p50_ms": 1.0})
    assert fresh(store).open(KEY)
    assert store.meta(KEY)["bytes"] == 0


@pytest.mark.parametrize("key", ["", "..", "../../etc", "a/b", "ab", ".hidden"])
def test_a_key_cannot_leave_the_store(store, key):
    with pytest.raises(ValueError, match="key"):
        store.has(key)


def test_facts_must_be_finite(store):
    with pytest.raises(ValueError, match="JSON compliant"):
        put(store, KEY, p50_ms=math.nan)
    assert not store.has(KEY)


def test_a_stage_may_not_write_the_meta(store):
    with store.writing(KEY) as folder:
        (folder / "meta.json").write_text("{}")
        with pytest.raises(ValueError, match=r"meta\.json"):
            store.commit(KEY, folder, stage="export", seconds=0.0, facts={})


@given(data=st.data())
@settings(max_examples=60)
def test_any_changed_byte_is_found_and_the_artifact_removed(tmp_path_factory, data):
    store = Store(tmp_path_factory.mktemp("store"))
    folder = put(store, KEY, accuracy=0.993)
    name = data.draw(st.sampled_from(["meta.json", "notes.txt", "sub/weights.bin"]))
    whole = bytearray((folder / name).read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(whole)
    opened = fresh(store).open(KEY)
    if opened is None:
        assert not store.has(KEY)
        put(store, KEY)
        assert store.open(KEY)
    else:  # white space of the JSON text may change without changing what it says
        assert name == "meta.json"
        assert fresh(store).meta(KEY)["facts"] == {"accuracy": 0.993}


@pytest.mark.parametrize("name", ["meta.json", "notes.txt"])
def test_a_missing_file_is_found(store, name):
    (put(store, KEY) / name).unlink()
    assert fresh(store).open(KEY) is None
    assert not (store.root / KEY[:2] / KEY).exists()


def test_digests_are_checked_once_and_again_for_a_new_artifact(store, monkeypatch):
    from autotune.store import content

    checked = []
    intact = content.intact
    monkeypatch.setattr(content, "intact", lambda folder: checked.append(folder) or intact(folder))
    put(store, KEY)
    for _ in range(3):
        assert store.open(KEY)
    assert len(checked) == 1
    store.collect(0)
    put(store, KEY)
    store.open(KEY)
    assert len(checked) == 2


def test_the_first_of_two_is_kept(store):
    with store.writing(KEY) as late:
        (late / "weights.bin").write_bytes(b"late")
        first = put(store, KEY, b"first")
        assert store.commit(KEY, late, stage="export", seconds=9.0, facts={}) == first
    assert (first / "sub" / "weights.bin").read_bytes() == b"first"
    assert store.meta(KEY)["seconds"] == 1.5
    assert list((store.root / "tmp").iterdir()) == []


def test_a_corrupt_first_is_replaced(store):
    (put(store, KEY, b"first") / "notes.txt").write_text("hullo")
    again = fresh(store)
    assert (put(again, KEY, b"second") / "sub" / "weights.bin").read_bytes() == b"second"


def _compute(root: Path, log: Path) -> None:
    store = Store(root)
    with store.lock(KEY):
        if not store.has(KEY):
            with log.open("a") as stream:
                stream.write(f"{os.getpid()}\n")
            time.sleep(0.05)
            put(store, KEY)


def test_many_processes_compute_a_key_once(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path / "store", log)
    workers = [context.Process(target=_compute, args=arguments) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert len(log.read_text().split()) == 1
    assert list((tmp_path / "store" / "locks").iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
from autotune.store import Store
store = Store(Path(sys.argv[1]))
with store.lock(sys.argv[2]), store.writing(sys.argv[2]) as folder:
    (folder / "half").write_bytes(bytes(1000))
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_frees_its_key_and_is_swept_while_a_living_one_is_not(store):
    arguments = [sys.executable, "-c", KILLED, str(store.root), KEY]
    with store.writing(OTHER) as mine:
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "writing\n"
            store.sweep()
            assert len(list((store.root / "tmp").glob("*/half"))) == 1
            writer.send_signal(signal.SIGKILL)
        with store.lock(KEY):
            store.sweep()
        left = {path.name for path in (store.root / "tmp").iterdir()}
        assert left == {mine.name, f"{mine.name}.lock"}


def test_an_artifact_travels_packed(store, tmp_path):
    put(store, KEY, kernels=3)
    there = Store(tmp_path / "there")
    folder = there.unpack(KEY, store.pack(KEY))
    assert (folder / "sub" / "weights.bin").read_bytes() == b"weights"
    assert there.meta(KEY) == store.meta(KEY)
    assert there.open(KEY) == folder
    assert there.unpack(KEY, store.pack(KEY)) == folder


def test_packing_needs_an_artifact(store):
    with pytest.raises(KeyError):
        store.pack(KEY)
    with pytest.raises(KeyError):
        store.meta(KEY)


def repacked(data: bytes, change: str) -> bytes:
    """An archive with one thing wrong."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as source,
        tarfile.open(fileobj=out, mode="w") as archive,
    ):
        for member in source:
            content = source.extractfile(member).read()
            if change == "content" and member.name == "notes.txt":
                content = b"HELLO"
            if change == "missing" and member.name == "notes.txt":
                continue
            archive.addfile(member, io.BytesIO(content))
        extra = tarfile.TarInfo({"escape": "../evil", "absolute": "/evil"}.get(change, "evil"))
        if change in ("escape", "absolute", "extra"):
            archive.addfile(extra)
        if change == "link":
            extra.type, extra.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(extra)
    return out.getvalue()


CHANGES = ["content", "missing", "escape", "absolute", "extra", "link", "cut", "garbage"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_or_hostile_archive_is_refused(store, tmp_path, change):
    put(store, KEY)
    data = store.pack(KEY)
    bad = {"cut": data[:1500], "garbage": b"x" * 2000}.get(change) or repacked(data, change)
    there = Store(tmp_path / "there")
    with pytest.raises(ValueError, match="archive"):
        there.unpack(KEY, bad)
    assert not there.has(KEY)
    assert there.size_bytes() == 0
    assert not list(tmp_path.rglob("evil"))


def test_collecting_removes_the_least_recently_used_and_never_what_is_kept(store):
    keys = [f"{i}{i}" * 8 for i in range(5)]
    for age, key in enumerate(keys):
        os.utime(put(store, key, bytes(10_000)), (age, age))
    store.open(keys[0])
    each = store.size_bytes() // 5
    freed = store.collect(3 * each + 100, keep={keys[1]})
    assert sorted(store.keys()) == [keys[0], keys[1], keys[4]]
    assert freed == pytest.approx(2 * each, abs=100)
    assert store.collect(0, keep=set(keys)) == 0
    store.collect(0)
    assert list(store.keys()) == []
    assert store.size_bytes() == 0


def test_collecting_an_empty_store(store):
    assert store.collect(0) == 0
