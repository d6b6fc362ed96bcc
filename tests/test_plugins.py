"""The file's name is the registration; an entry point is a third party's."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import autotune
from autotune import plugins
from autotune.errors import UserError

KINDS = ("backends", "techniques", "samplers", "metrics")


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_a_plugin_and_loads(kind):
    folder = Path(autotune.__file__).parent / kind
    files = {f.stem for f in folder.glob("*.py") if not f.stem.startswith("_")}
    assert files
    assert files <= set(plugins.names(kind))
    assert list(plugins.names(kind)) == sorted(plugins.names(kind))
    for name in files:
        assert plugins.load(kind, name).summary


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_tells_the_known_ones(kind):
    with pytest.raises(UserError, match=f"no {kind[:-1]} 'tensorflow'") as caught:
        plugins.load(kind, "tensorflow")
    assert all(name in caught.value.remedy for name in plugins.names(kind))


def test_versions_name_the_distribution():
    assert plugins.version("numpy") == f"numpy=={importlib.metadata.version('numpy')}"
    assert plugins.version("no-such-thing") == "no-such-thing==absent"


@pytest.fixture
def third_party(tmp_path):
    """A distribution with two backends: one good, one that cannot be imported."""
    (tmp_path / "theirs.py").write_text("summary = 'a third party runtime'\n")
    (tmp_path / "broken_one.py").write_text("import nothing_of_this_name\n")
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = "theirs = theirs\nbroken = broken_one\ntorch = theirs\n"
    (info / "entry_points.txt").write_text(f"[autotune.backends]\n{points}")
    return tmp_path


def told(folder, code):
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from autotune import plugins; {code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_an_entry_point_is_a_plugin_like_ours(third_party):
    done = told(
        third_party,
        "print('theirs' in plugins.names('backends'), 'theirs' in sys.modules,"
        " plugins.load('backends', 'theirs').summary)",
    )
    assert done.stdout.strip() == "True False a third party runtime"


def test_a_third_party_cannot_take_the_name_of_ours(third_party):
    done = told(
        third_party,
        "print(plugins.names('backends').count('torch'),"
        " plugins.load('backends', 'torch').__name__)",
    )
    assert done.stdout.split() == ["1", "autotune.backends.torch"]


def test_a_plugin_that_cannot_be_imported_says_so(third_party):
    done = told(third_party, "plugins.load('backends', 'broken')")
    assert done.returncode
    assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in done.stderr
