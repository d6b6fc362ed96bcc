"""Every ready search space loads as it stands, and can be copied to start from."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from autotune.cli import group
from autotune.errors import UserError
from autotune.spec import load

SPACES = sorted((Path(__file__).parents[1] / "search_spaces").glob("*/space.yaml"))


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.parent.name)
def test_it_loads_and_holds_something_to_search(path):
    spec = load(path)
    grid = spec.space.grid()
    assert grid is None or len(grid.points) > spec.budget.trials


def test_the_digits_space_is_as_large_as_promised():
    spec = load(next(path for path in SPACES if path.parent.name == "digits"))
    assert len(spec.space.grid().points) >= 2000
    assert spec.budget.trials >= 48


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.parent.name)
def test_init_copies_it(path, tmp_path):
    name = path.parent.name
    listed = CliRunner().invoke(group, ["init"])
    assert name in listed.output
    copied = CliRunner().invoke(group, ["init", name, str(tmp_path / "mine")])
    assert copied.exit_code == 0, copied.output
    assert load(tmp_path / "mine" / "space.yaml").space.grid() == load(path).space.grid()


def test_init_refuses_what_it_does_not_know_and_what_exists(tmp_path):
    with pytest.raises(UserError, match="no search space 'nothing'"):
        CliRunner().invoke(
            group, ["init", "nothing"], catch_exceptions=False, standalone_mode=False
        )
    with pytest.raises(UserError, match="exists already"):
        CliRunner().invoke(
            group, ["init", "digits", str(tmp_path)], catch_exceptions=False, standalone_mode=False
        )
