"""What every backend must do; a new file in autotune/backends is tested by existing."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from autotune import plugins
from autotune.artifact import Stage
from autotune.contracts import PRECISIONS, PTQ, StageContext
from autotune.conversion import arrays
from autotune.engine.execute import _function
from autotune.hardware import machine
from autotune.measure import check
from autotune.target import Machine, Target
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import network as networks

NETS = """
import torch
from torch import nn

class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv1(x)))
        y = torch.relu(self.conv2(y) + y)
        return self.head(y.mean((2, 3)))

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 16), nn.Linear(4, 16)
        self.middle, self.head = nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, wide, narrow):
        y = torch.cat([torch.relu(self.left(wide)), torch.relu(self.right(narrow))], 1)
        return {"hidden": y, "classes": self.head(torch.relu(self.middle(y)))}

def conv():
    torch.manual_seed(0)
    return Conv()

def two():
    torch.manual_seed(0)
    return Two()
"""
SHAPES = {"conv": {"x": (2, 8, 8)}, "two": {"wide": (6,), "narrow": (4,)}}
OUTPUT = {"conv": 0, "two": "classes"}
FAST = Machine("imagined", ("avx512_bf16", "avx512_vnni"), (0, 1), 2**30)
SLOW = Machine("imagined", ("avx2",), (0,), 2**30)
ONNX = ModelSource(onnx="model.onnx")
names = plugins.names("backends")


def target(of=None):
    return Target("here", 1, 1, None, of or machine())


def knobs(name):
    """Every combination of the backend's own knobs that exists, at every precision."""
    for precision, method in [(p, m) for p in PRECISIONS for m in methods(p)]:
        shared = {"precision": precision, "backend": name, "batch": 1, "threads": 1}
        if method:
            shared |= {"ptq.samples": 40, "ptq.method": method}
        settings = [shared]
        for parameter in plugins.load("backends", name).parameters():
            values = (parameter.default,) if method not in ("", "minmax") else parameter.choices
            values = values or ((False, True) if parameter.kind is bool else ())
            values = values or (parameter.default,)
            settings = [
                {**one, f"{name}.{parameter.name}": value} if parameter.when.holds(one) else one
                for one in settings
                for value in (values if parameter.when.holds(one) else (None,))
            ]
        yield from settings


def methods(precision):
    return next(p for p in PTQ if p.name == "method").choices if precision == "int8" else ("",)


def told(settings):
    return ",".join(str(settings[k]) for k in sorted(settings) if k not in ("batch", "threads"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Artifacts of both networks and their data, and a memo of what backends made of them."""
    folder = tmp_path_factory.mktemp("backends")
    (folder / "nets.py").write_text(NETS)
    found = {}
    rng = np.random.default_rng(0)
    for name, shapes in SHAPES.items():
        model = ModelSource(CodeRef(str(folder / "nets.py"), name), output=OUTPUT[name])
        (folder / name).mkdir()
        networks.save(networks.given(model), Blueprint(), model, folder / name)
        x = {k: rng.normal(size=(64, *s)).astype(np.float32) for k, s in shapes.items()}
        (folder / f"{name}-data").mkdir()
        arrays.write(
            folder / f"{name}-data", dict.fromkeys(("train", "calibration", "test"), (x, None))
        )
        stages = (Stage(f"{name}", "", "network"), Stage(f"{name}-data", "", "data"))
        found[name] = (model, stages, x)
    return folder, found


def make(stage, folder):
    """The artifact of a stage, made by the real function of each stage before it."""
    if not stage.function:
        return folder / stage.name
    out = folder / stage.key
    if not out.exists():
        inputs = tuple(make(before, folder) for before in stage.inputs)
        out.mkdir()
        scratch = folder / f"{stage.key}-scratch"
        scratch.mkdir()
        _function(stage.function)(StageContext(stage, inputs, out, scratch))
    return out


@pytest.mark.parametrize("name", names)
def test_its_metadata_needs_no_heavy_library(name):
    code = (
        "import sys; from autotune import plugins, hardware; from autotune.target import Target;"
        "from autotune.task import ModelSource;"
        f"p = plugins.load('backends', {name!r}); p.unavailable(); p.parameters();"
        "t = Target('t', 1, 1, None, hardware.machine());"
        f"s = {{'precision': 'fp32', 'backend': {name!r}}};"
        f"s |= {{{name!r} + '.' + q.name: q.default for q in p.parameters()}};"
        "p.reject(s, t, ModelSource(onnx='m.onnx'));"
        "heavy = {l.replace('-', '_') for l in p.libraries} | {'torch', 'onnx', 'ray'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", names)
def test_what_it_declares_is_legal(name):
    backend = plugins.load("backends", name)
    assert backend.summary
    assert backend.libraries
    assert all(plugins.version(library).split("==")[1] != "absent" for library in backend.libraries)
    assert backend.unavailable() is None
    words = [p.name for p in backend.parameters()]
    assert len(set(words)) == len(words)
    own = {f"{name}.{word}" for word in words} | {"precision"}
    for parameter in backend.parameters():
        assert isinstance(parameter.default, parameter.kind)
        assert not parameter.choices or parameter.default in parameter.choices
        assert parameter.low is None or parameter.low <= parameter.default
        assert parameter.high is None or parameter.default <= parameter.high
        assert parameter.help
        assert parameter.when.knobs() <= own


@pytest.mark.parametrize("name", names)
def test_every_point_runs_or_is_rejected_with_a_reason(name):
    backend = plugins.load("backends", name)
    model = ModelSource(CodeRef("task.py", "build"))
    accepted = 0
    for settings, hardware, source in itertools.product(knobs(name), (FAST, SLOW), (model, ONNX)):
        rejection = backend.reject(settings, target(hardware), source)
        accepted += rejection is None
        assert rejection is None or len(rejection.reason.split()) > 3
    assert accepted
    fast = [s for s in knobs(name) if backend.reject(s, target(FAST), model) is None]
    assert {"fp32"} <= {s["precision"] for s in fast}


ALL = [(name, s) for name in names for s in knobs(name)]


def accepted():
    """One case for each network and each point that runs on this machine."""
    model = ModelSource(CodeRef("task.py", "build"))
    for name, settings in ALL:
        if plugins.load("backends", name).reject(settings, target(), model) is None:
            for net in SHAPES:
                yield pytest.param(name, settings, net, id=f"{net}-{told(settings)}")


@pytest.mark.parametrize(("name", "settings", "net"), accepted())
def test_it_computes_the_network_as_asked(name, settings, net, workplace):
    folder, found = workplace
    model, (network, data), x = found[net]
    backend = plugins.load("backends", name)
    artifact = make(backend.stages(settings, network, data), folder)
    fresh, _, _ = networks.load(folder / net)
    expected = networks.predict(fresh, x, model.output)
    for batch in (1, 3):
        batches = [arrays.rows(x, start, batch) for start in range(0, 60, batch)]
        kept = [{k: v.copy() for k, v in b.items()} for b in batches]
        with backend.open(artifact, settings, batch, threads=1) as session:
            outputs = [session.run(b) for b in batches]
            again = session.run(batches[0])
            facts = session.facts()
        assert all(o.shape == (batch, 5) and o.dtype == np.float32 for o in outputs)
        assert all(
            np.array_equal(b[k], c[k]) for b, c in zip(batches, kept, strict=True) for k in b
        )
        np.testing.assert_allclose(again, outputs[0], rtol=1e-3, atol=1e-4)
        check.verify(expected[:60], np.concatenate(outputs), settings["precision"])
        assert facts["threads"] == 1
        assert facts["provider"]
        assert facts["kernels"].get(settings["precision"], 0) > 0
        if settings["precision"] == "fp32":
            assert {k for k, n in facts["kernels"].items() if n} == {"fp32"}


@pytest.mark.parametrize("name", names)
def test_what_it_returned_stays_when_it_runs_again(name, workplace):
    folder, found = workplace
    _, (network, data), x = found["conv"]
    settings = next(s for s in knobs(name) if s["precision"] == "fp32")
    backend = plugins.load("backends", name)
    artifact = make(backend.stages(settings, network, data), folder)
    with backend.open(artifact, settings, 1, threads=1) as session:
        first = session.run(arrays.rows(x, 0, 1))
        kept = first.copy()
        second = session.run(arrays.rows(x, 1, 1))
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", names)
def test_an_onnx_model_with_several_outputs_gives_the_one_asked_for(name, tmp_path):
    model = ModelSource(onnx="model.onnx", output=1)
    settings = next(s for s in knobs(name) if s["precision"] == "fp32")
    backend = plugins.load("backends", name)
    if backend.reject(settings, target(), model):
        pytest.skip("takes no ONNX models")

    class Pair(nn.Module):
        def forward(self, x):
            return x + 1, x * 3

    torch.onnx.export(
        Pair(),
        (torch.ones(2, 3),),
        str(tmp_path / "model.onnx"),
        input_names=["x"],
        output_names=["more", "thrice"],
        dynamic_axes={"x": {0: "n"}},
        dynamo=False,
    )
    networks.write_source(model, tmp_path)
    x = np.arange(3, dtype=np.float32)[None]
    with backend.open(tmp_path, settings, 1, threads=1) as session:
        assert np.array_equal(session.run({"x": x}), 3 * x)
