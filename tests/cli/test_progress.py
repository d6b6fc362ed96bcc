"""The live view of a search: what a terminal shows, and what is printed where there is none."""

import io
import shutil
import time
from pathlib import Path

import pytest
from rich.console import Console

from autotune import api
from autotune.cli import progress
from autotune.search.driver import State

TINY = Path(__file__).parents[1] / "tiny"
LINE = "distill: epoch 3 of 10, loss 0.12, 8 s left"
STATE = State((), ("distill", "export", "export"), 3.0, (LINE,))


@pytest.fixture
def spec(tmp_path):
    for name in ("task.py", "space.yaml"):
        shutil.copy(TINY / name, tmp_path)
    (tmp_path / "teacher.pt").touch()
    return api.load(tmp_path / "space.yaml")


@pytest.fixture
def view(spec, monkeypatch):
    """Makes a view on a console of its own; what it prints is in the console's file."""

    def make(*, terminal, quiet=False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=100, soft_wrap=True)
        monkeypatch.setattr(progress, "err", console)
        shown = progress.Progress(spec, api.default_objective(spec.objectives), quiet)
        return shown, console.file

    return make


def test_a_terminal_shows_how_far_a_training_is(view):
    shown, file = view(terminal=True)
    with shown:
        shown(STATE)
        time.sleep(0.7)
    assert LINE in file.getvalue()
    assert "under way or waiting: distill, 2 export" in file.getvalue()


def test_however_often_it_is_told_a_terminal_is_drawn_twice_a_second(view):
    shown, file = view(terminal=True)
    begun = time.monotonic()
    with shown:
        while time.monotonic() - begun < 1.0:
            shown(STATE)
            time.sleep(0.01)
    assert 1 <= file.getvalue().count(LINE) <= 2 * (time.monotonic() - begun) + 2


def test_where_there_is_no_terminal_one_line_says_it_now_and_then(view):
    shown, file = view(terminal=False)
    with shown:
        for _ in range(100):
            shown(STATE)
    lines = file.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("0/8 trials")
    assert LINE in lines[0]


def test_quiet_is_quiet(view):
    for terminal in (True, False):
        shown, file = view(terminal=terminal, quiet=True)
        with shown:
            shown(STATE)
        assert file.getvalue() == ""
