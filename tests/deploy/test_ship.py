"""The folder ``best/``: replaced whole, and nothing outside of it is touched."""

import json

import pytest

from autotune.deploy import BEST, ship
from autotune.pick import Pick
from autotune.space import Configuration
from autotune.store.artifacts import Store
from autotune.trial import Completed, Estimate, Measurement, Trial

KEY = "ab" * 16
PICK = Pick(1, (), "latency_p50", 1.0, None, None)
TRIAL = Trial(
    1,
    Configuration((("backend", "onnxruntime"), ("batch", 1))),
    "sampler",
    Completed(Measurement({"accuracy": Estimate(0.9)}, {"artifact": KEY, "runtime": {}}, "")),
)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    with store.writing(KEY) as folder:
        (folder / "model.onnx").write_text("model")
        store.commit(KEY, folder, stage="export", seconds=1.0, facts={})
    return store


def test_what_is_shipped_says_what_it_is(store, tmp_path):
    folder = ship(TRIAL, PICK, store, tmp_path / BEST)
    assert (folder / "model.onnx").read_text() == "model"
    assert json.loads((folder / "configuration.json").read_text())["trial"] == 1
    assert not (folder / "meta.json").exists()


@pytest.mark.parametrize("name", [BEST, f".{BEST}.new"])
@pytest.mark.parametrize("found", ["link", "dangling", "file", "folder"])
def test_whatever_stands_in_its_place_is_replaced_and_links_are_not_followed(
    store, tmp_path, name, found
):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").touch()
    place = tmp_path / name
    if found in ("link", "dangling"):
        place.symlink_to(mine if found == "link" else tmp_path / "nowhere")
    elif found == "file":
        place.touch()
    else:
        place.mkdir()
        (place / "old").touch()
    folder = ship(TRIAL, PICK, store, tmp_path / BEST)
    assert not folder.is_symlink()
    assert (folder / "model.onnx").exists()
    assert not (folder / "old").exists()
    assert (mine / "precious").exists()


def test_nothing_picked_leaves_nothing(store, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / BEST).symlink_to(mine)
    assert ship(None, None, store, tmp_path / BEST) is None
    assert not (tmp_path / BEST).is_symlink()
    assert mine.exists()
