"""A full disk is said to be full, and leaves nothing half done."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.errors import MachineError, StageError
from autotune.store import Journal, Store, disk, read


@pytest.fixture
def megabyte(tmp_path):
    """A real disk of one megabyte; skipped where this process may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def check(error: MachineError, folder: Path, option: str) -> None:
    assert error.place == str(folder)
    assert "the disk is full" in error.cause
    assert option in error.remedy


def test_a_stage_that_fills_the_disk_fails_with_the_remedy(megabyte):
    store = Store(megabyte / "store")
    with pytest.raises(MachineError) as caught, store.writing("aaaa") as folder:
        (folder / "weights").write_bytes(bytes(2_000_000))
    check(caught.value, store.root, "--store")
    assert "more than 1.05 MB were needed, 0 B are free" in caught.value.cause
    assert list((store.root / "tmp").iterdir()) == []
    assert not store.has("aaaa")


def fill(store: Store, error: Exception) -> None:
    """A stage that hides the disk's error behind another one."""
    with store.writing("aaaa") as folder:
        try:
            (folder / "weights").write_bytes(bytes(2_000_000))
        except OSError:
            raise error from None


def test_a_library_that_hides_the_reason_is_understood(megabyte):
    with pytest.raises(MachineError, match="the disk is full"):
        fill(Store(megabyte / "store"), RuntimeError("inline_container.cc: failed writing file"))


def test_our_own_errors_keep_their_words_on_a_full_disk(megabyte):
    with pytest.raises(StageError, match="not int8"):
        fill(Store(megabyte / "store"), StageError("not int8"))


def test_unpacking_onto_a_full_disk(megabyte, tmp_path):
    whole = Store(tmp_path / "whole")
    with whole.writing("aaaa") as folder:
        (folder / "weights").write_bytes(os.urandom(2_000_000))
        whole.commit("aaaa", folder, stage="export", seconds=1.0, facts={})
    small = Store(megabyte / "store")
    with pytest.raises(MachineError) as caught:
        small.unpack("aaaa", whole.pack("aaaa"))
    check(caught.value, small.root, "--store")
    assert not small.has("aaaa")


def test_the_journal_on_a_full_disk_keeps_what_it_has_and_goes_on_later(megabyte):
    path = megabyte / "journal.jsonl"
    filler = megabyte / "filler"
    with Journal(path) as journal:
        journal.append({"trial": 0})
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(2_000_000))
        before = path.read_bytes()
        with pytest.raises(MachineError) as caught:
            journal.append({"trial": 1, "reason": "x" * 20_000})
        check(caught.value, megabyte, "--out")
        assert path.read_bytes() == before
        filler.unlink()
        journal.append({"trial": 2})
    assert read(path) == [{"trial": 0}, {"trial": 2}]


def test_a_full_disk_at_the_last_flush_commits_nothing(tmp_path, monkeypatch):
    """Where a file system allocates late, only fsync notices: simulated, no disk here does it."""
    store = Store(tmp_path / "store")

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with store.writing("aaaa") as folder:
        (folder / "weights").write_bytes(b"1234")
        monkeypatch.setattr(disk.os, "fsync", fsync)
        with pytest.raises(MachineError) as caught:
            store.commit("aaaa", folder, stage="export", seconds=1.0, facts={})
    check(caught.value, store.root, "--store")
    assert not store.has("aaaa")


def test_other_errors_of_the_disk_stay_what_they_are(tmp_path):
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from autotune.store import Store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with Store(Path(sys.argv[1])).writing('aaaa') as folder:\n"
        "    (folder / 'weights').write_bytes(bytes(5000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert "MachineError" not in done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
