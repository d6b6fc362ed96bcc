"""A network on disk comes back exactly, or not at all."""

import json
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from autotune.errors import StageError, TaskError
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import network as networks

NETS = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.outer.weight = self.inner.weight
        self.register_buffer("scale", torch.ones(width))

    def forward(self, x):
        return self.outer(torch.relu(self.inner(x))) * self.scale

def tied(width=4):
    return Tied(width)

def broken(width=4):
    raise RuntimeError("no such width")

def number(width=4):
    return width
"""


@pytest.fixture
def model(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return ModelSource(CodeRef(str(tmp_path / "nets.py"), "tied"), {"width": 4})


def shrunk(model):
    """A network whose shape is no longer its factory's: two of four units are left."""
    network = networks.build(model, Blueprint(model.args))
    network.width = 2
    network.inner = nn.Linear(2, 2)
    network.outer = nn.Linear(2, 2)
    network.outer.weight = network.inner.weight
    network.scale = torch.tensor([2.0, 3.0])
    return network.eval()


def test_what_pruning_changed_comes_back(model, tmp_path):
    network = shrunk(model)
    networks.save(network, Blueprint(model.args), model, tmp_path)
    loaded, args, source = networks.load(tmp_path)
    x = torch.randn(3, 2)
    assert torch.equal(loaded(x), network(x))
    assert loaded.width == loaded.inner.in_features == loaded.outer.out_features == 2
    assert loaded.outer.weight is loaded.inner.weight
    assert not loaded.training
    assert (args, source) == (Blueprint(model.args), model)


def test_no_pickle_is_run(model, tmp_path):
    """A file that would run code when it is unpickled is refused, and the code is not run."""
    networks.save(shrunk(model), Blueprint(model.args), model, tmp_path)
    trace = tmp_path / "was-run"

    class Evil:
        def __reduce__(self):
            return (trace.write_text, ("x",))

    torch.save({"args": {}, "attrs": {}, "state": Evil()}, tmp_path / networks.FILE)
    with pytest.raises(pickle.UnpicklingError):
        networks.load(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_a_state_that_does_not_fit_is_refused(model, tmp_path, change):
    networks.save(shrunk(model), Blueprint(model.args), model, tmp_path)
    record = torch.load(tmp_path / networks.FILE, weights_only=True)
    if change == "missing":
        del record["state"]["inner.bias"]
    elif change == "extra":
        record["state"]["more"] = torch.ones(1)
    else:
        record["state"]["inner.bias"] = "text"
    torch.save(record, tmp_path / networks.FILE)
    with pytest.raises((RuntimeError, AttributeError)):
        networks.load(tmp_path)


def test_a_torn_file_is_refused(model, tmp_path):
    networks.save(shrunk(model), Blueprint(model.args), model, tmp_path)
    whole = (tmp_path / networks.FILE).read_bytes()
    (tmp_path / networks.FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises((RuntimeError, pickle.UnpicklingError, EOFError)):
        networks.load(tmp_path)


def test_the_given_weights_are_those_of_the_file(model, tmp_path):
    trained = networks.build(model, Blueprint(model.args))
    torch.save(trained.state_dict(), tmp_path / "teacher.pt")
    given = networks.given(ModelSource(model.factory, model.args, str(tmp_path / "teacher.pt")))
    x = torch.randn(3, 4)
    assert torch.equal(given(x), trained.eval()(x))


def test_weights_of_another_network_are_the_users_to_mend(model, tmp_path):
    torch.save({"other.weight": torch.ones(2)}, tmp_path / "teacher.pt")
    with pytest.raises(TaskError) as caught:
        networks.given(ModelSource(model.factory, model.args, str(tmp_path / "teacher.pt")))
    assert "inner.weight" in caught.value.cause
    assert caught.value.place == str(tmp_path / "teacher.pt")
    assert "state_dict" in caught.value.remedy


def test_a_factory_that_raises_or_returns_something_else_is_named(model):
    file = model.factory.file
    line = 1 + NETS.splitlines().index('    raise RuntimeError("no such width")')
    with pytest.raises(TaskError, match=r"broken\(width=4\) raised RuntimeError: no such") as found:
        networks.build(ModelSource(CodeRef(file, "broken")), Blueprint({"width": 4}))
    assert found.value.place == f"{file}:{line}"
    with pytest.raises(TaskError, match=r"number\(\) returned int") as found:
        networks.build(ModelSource(CodeRef(file, "number")), Blueprint({"width": 4}))
    assert found.value.place == file
    with pytest.raises(TaskError, match="has no factory"):
        networks.build(ModelSource(onnx="model.onnx"), Blueprint())


@pytest.mark.parametrize("output", [0, 1, "logits", -1])
def test_one_output_is_the_prediction(output):
    one, two = torch.zeros(1), torch.ones(1)
    expected = {0: one, 1: two, -1: two, "logits": two}[output]
    assert networks.select(two, output) is two
    assert networks.select({"hidden": one, "logits": two}, output) is expected
    if isinstance(output, int):
        assert networks.select((one, two), output) is expected


@pytest.mark.parametrize("output", [2, "logits"])
def test_an_output_that_is_not_there_is_named(output):
    with pytest.raises(StageError, match=f"no output {output!r}"):
        networks.select((torch.zeros(1), torch.ones(1)), output)


def test_an_output_that_is_no_tensor_is_named():
    with pytest.raises(StageError, match="is a list, not a tensor"):
        networks.select({"logits": [1]}, "logits")


def test_a_prediction_does_not_depend_on_how_it_is_batched(model):
    network = networks.build(model, Blueprint(model.args)).eval()
    x = {"input": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)}
    whole = networks.predict(network, x, 0, batch=128)
    np.testing.assert_allclose(networks.predict(network, x, 0, batch=2), whole, rtol=1e-5)


def test_the_source_is_written_as_it_is(model, tmp_path):
    networks.write_source(model, tmp_path)
    assert networks.read_source(tmp_path) == model
    assert json.loads((tmp_path / networks.SOURCE).read_text())["output"] == 0
    onnx = ModelSource(onnx="m.onnx", output="logits")
    networks.write_source(onnx, tmp_path)
    assert networks.read_source(tmp_path) == onnx
