"""One stage in this process: what it leaves behind."""

import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import pytest
from engine_stages import stage

from autotune.engine import execute


@pytest.fixture
def killed(tmp_path):
    """A stage whose process was killed, and the folder of its temporary files."""
    marker = tmp_path / "marker"
    littering = stage("litter", marker=str(marker))
    arguments = (littering, str(tmp_path / "store"), None, False)
    process = multiprocessing.get_context("spawn").Process(target=execute.run, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    folder = Path(marker.read_text())
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["left"]
    return littering, folder


def test_the_temporary_files_of_a_killed_stage_go_with_its_next_run(killed, tmp_path, monkeypatch):
    littering, folder = killed
    monkeypatch.delenv("TMPDIR", raising=False)
    before = tempfile.gettempdir()
    result = execute.run(littering, str(tmp_path / "store"), None, False)
    assert result.facts == {"folder": str(folder), "told": str(folder), "files": 1}
    assert not folder.exists()
    assert tempfile.gettempdir() == before
    assert "TMPDIR" not in os.environ
    assert folder.parent == Path(before)


def test_the_temporary_files_of_a_stage_that_is_given_up_go(killed, tmp_path):
    littering, folder = killed
    assert not execute.overdue(littering, tmp_path / "store")
    assert not folder.exists()


def test_a_lanes_stage_keeps_to_the_machines_folder_in_which_lanes_are_shared(tmp_path):
    measuring = stage("lanes_folder", lane="local")
    assert execute.run(measuring, str(tmp_path), None, False).facts == {
        "folder": tempfile.gettempdir()
    }
