"""Sessions of fixed sizes behind a batcher: each batch goes to the next one, filled up."""

import shutil
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune import plugins
from autotune.conversion import arrays
from autotune.engine import serving

KNOBS = {
    "torch": {"torch.channels_last": False, "torch.freeze": True},
    "onnxruntime": {"onnxruntime.level": "all"},
    "openvino": {"openvino.hint": "latency"},
}


@given(st.integers(1, 200))
def test_sizes_are_powers_of_two_up_to_the_largest(most):
    sizes = serving.sizes(most)
    assert sizes[0] == 1
    assert sizes[-1] == most
    assert all(2 * size >= larger > size for size, larger in pairwise(sizes))


def test_a_batch_of_none_is_refused():
    with pytest.raises(ValueError, match="max_batch is 1 or more, not 0"):
        serving.sizes(0)


@pytest.mark.parametrize("name", sorted(KNOBS))
def test_every_size_is_answered_as_one_by_one(tiny_onnx, tiny_taken, name):
    store, subject, _ = tiny_taken
    artifact = store.open(subject.source.key) if name == "torch" else tiny_onnx
    x = arrays.read(store.open(subject.data.key), "test", limit=6)
    settings = {"precision": "fp32", **KNOBS[name]}
    with serving.opened(plugins.load("backends", name), artifact, settings, 6, 1) as run:
        alone = np.concatenate([run(arrays.rows(x, i, 1)) for i in range(6)])
        for count in range(1, 7):
            together = run(arrays.rows(x, 0, count))
            assert together.shape == (count, 3)
            np.testing.assert_allclose(together, alone[:count], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_sessions_stay_compiled_beside_each_other(tiny_taken):
    """Each has a graph of its own; none makes the compiler forget another's."""
    from torch._dynamo.utils import counters

    store, subject, _ = tiny_taken
    x = arrays.read(store.open(subject.data.key), "test", limit=2)
    settings = {"precision": "fp32", **KNOBS["torch"], "torch.freeze": False, "torch.compile": True}
    backend = plugins.load("backends", "torch")
    counters.clear()
    with serving.opened(backend, store.open(subject.source.key), settings, 2, 1) as run:
        for _ in range(3):
            for count in (1, 2):
                run(arrays.rows(x, 0, count))
    assert counters["stats"]["unique_graphs"] == 2


class Recorder:
    """A session that keeps what it was asked."""

    def __init__(self):
        self.seen = []

    def run(self, batch):
        self.seen.append(batch["x"].ravel().tolist())
        return batch["x"]

    def facts(self):
        return {}


def test_a_batch_is_filled_up_with_its_own_samples():
    sessions = {1: Recorder(), 4: Recorder()}
    run = serving.filled_up(sessions)
    x = np.array([[7.0], [8.0], [9.0]])
    assert run({"x": x}).tolist() == x.tolist()
    assert run({"x": x[:1]}).tolist() == [[7.0]]
    assert sessions[4].seen == [[7.0, 8.0, 9.0, 7.0]]
    assert sessions[1].seen == [[7.0]]
