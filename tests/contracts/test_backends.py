"""What every backend must do; a new file in autotune/backends is tested by existing."""

import itertools
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from autotune import plugins
from autotune.artifact import Stage
from autotune.contracts import PRECISIONS, SHARED, StageContext
from autotune.conversion import arrays
from autotune.engine.execute import _function
from autotune.hardware import gpus, machine
from autotune.measure import check
from autotune.space import ALWAYS
from autotune.target import Gpu, Machine, Target
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

class Attend(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.after = nn.LayerNorm(16), nn.LayerNorm(16)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.output, self.head = nn.Linear(16, 16), nn.Linear(16, 5)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def split(self, x):
        return x.reshape(-1, 6, 2, 8).transpose(1, 2)

    def forward(self, x):
        y = self.norm(x)
        y = torch.nn.functional.scaled_dot_product_attention(
            self.split(self.query(y)), self.split(self.key(y)), self.split(self.value(y))
        )
        x = x + self.output(y.transpose(1, 2).reshape(-1, 6, 16))
        x = x + self.down(torch.nn.functional.gelu(self.up(self.after(x))))
        return self.head(x.mean(1))

def conv():
    torch.manual_seed(0)
    return Conv()

def attend():
    torch.manual_seed(0)
    return Attend()

def two():
    torch.manual_seed(0)
    return Two()
"""
SHAPES = {
    "conv": {"x": (2, 8, 8)},
    "two": {"wide": (6,), "narrow": (4,)},
    "attend": {"x": (6, 16)},
}
OUTPUT = {"conv": 0, "two": "classes", "attend": 0}
TRIED = {"ptq.samples": (40,), "ptq.keep": (0, 1), "threads": (1, 2)}
"""Values of the knobs that have no list of their own, the default first."""
DRAWS = 10
FAST = Machine("imagined", ("avx512_bf16", "avx512_vnni"), (0, 1), 2**30)
SLOW = Machine("imagined", ("avx2",), (0,), 2**30)
GPUS = gpus.accelerators().gpus
GPU = GPUS[0] if GPUS else Gpu(0, "imagined", 2**34, "8.9", "580.10")
DEVICES = {
    "cpu": {},
    "cuda": {"gpu.index": GPU.index, "gpu.name": GPU.name, "gpu.capability": GPU.capability},
}
"""What the engine adds to the settings of a target's configurations."""
ONNX = ModelSource(onnx="model.onnx")
names = plugins.names("backends")


def target(of=None, gpu=None):
    return Target("here", 1, 1, None, of or machine(), gpu)


PLACES = [("cpu", target(FAST)), ("cpu", target(SLOW)), ("cuda", target(FAST, GPU))]
HERE = [("cpu", target()), *(("cuda", target(gpu=gpu)) for gpu in GPUS[:1])]


def words(name):
    """The values of every knob that a configuration of the backend may hold, the default first."""
    found = [(f"{section}.{p.name}", p) for section, of in SHARED.items() for p in of]
    found += [(f"{name}.{p.name}", p) for p in plugins.load("backends", name).parameters()]
    found = {word: (p.when, *values(word, p)) for word, p in found}
    return {"threads": (ALWAYS, *TRIED["threads"]), **found}


def values(word, parameter):
    listed = parameter.choices or ((False, True) if parameter.kind is bool else ())
    listed = TRIED.get(word, listed) or (parameter.default,)
    return sorted(listed, key=lambda value: value != parameter.default)


def point(name, precision="fp32", device="cpu", **asked):
    """A configuration: what is asked for, defaults elsewhere, and no knob that does not exist."""
    settings = {"precision": precision, "backend": name, "batch": 1, "device": device}
    settings |= DEVICES[device]
    left = words(name)
    while left:
        word = next(w for w, (when, *_) in left.items() if not when.knobs() & set(left))
        when, default, *_ = left.pop(word)
        if when.holds(settings):
            settings[word] = asked.get(word, default)
    return settings


def points(name, device="cpu"):
    """The defaults at every precision, each value of each knob alone, and some drawn at random.

    A knob is tried at FP32 and INT8; one that exists at the defaults of neither, in the first place
    that another precision, or one other knob, gives it.
    """
    known = words(name)
    bases = [(p, {}) for p in sorted(PRECISIONS, key=lambda p: p not in ("fp32", "int8"))]
    bases += [(p, {w: v}) for p, _ in bases for w, (_, *of) in known.items() for v in of[1:]]
    found = [point(name, precision, device) for precision, asked in bases if not asked]
    for word, (_, *of) in known.items():
        there = [base for base in bases if word in point(name, base[0], device, **base[1])]
        plain = [base for base in there if base in (("fp32", {}), ("int8", {}))]
        for precision, asked in plain or there[:1]:
            found += [point(name, precision, device, **asked, **{word: value}) for value in of]
    draw = random.Random(0)
    for _ in range(DRAWS):
        asked = {word: draw.choice(of) for word, (_, *of) in known.items()}
        found.append(point(name, draw.choice(PRECISIONS), device, **asked))
    return [one for place, one in enumerate(found) if one not in found[:place]]


def told(settings):
    """The point in a test's name: the precision, and what is not as by default."""
    usual = point(settings["backend"], settings["precision"], settings["device"])
    other = [f"{w}={v}" for w, v in settings.items() if w not in usual or usual[w] != v]
    return "-".join([settings["backend"], settings["precision"], *other])


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
    there = [plugins.version(library).split("==")[1] != "absent" for library in backend.libraries]
    missing = backend.unavailable()
    assert all(there) if missing is None else len(missing.split()) > 3
    told = [p.name for p in backend.parameters()]
    assert len(set(told)) == len(told)
    own = {"precision", "device", *words(name)}
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
    for (device, where), source in itertools.product(PLACES, (model, ONNX)):
        for settings in points(name, device):
            rejection = backend.reject(settings, where, source)
            accepted += rejection is None
            assert rejection is None or len(rejection.reason.split()) > 3
    assert accepted
    fast = [s for d, t in PLACES for s in points(name, d) if not backend.reject(s, t, model)]
    assert {"fp32"} <= {s["precision"] for s in fast}


def accepted():
    """Cases: every point that runs on this machine, the defaults on one more network."""
    model = ModelSource(CodeRef("task.py", "build"))
    for name, (device, where) in itertools.product(names, HERE):
        backend = plugins.load("backends", name)
        runs = [s for s in points(name, device) if backend.reject(s, where, model) is None]
        for settings in runs if backend.unavailable() is None else ():
            usual = settings == point(name, settings["precision"], device)
            for net in SHAPES if usual else ("conv", "attend"):
                label = f"{net}-{device * (device != 'cpu')}{told(settings)}"
                yield pytest.param(name, settings, net, id=label, marks=marks(device))


def marks(device):
    return pytest.mark.gpu if device == "cuda" else ()


def seconds(run, batches):
    """What each request takes."""
    for batch in batches:
        start = time.perf_counter()
        run(batch)
        yield time.perf_counter() - start


def running(source):
    """Cases: each backend's defaults where they run on a model such as ``source``."""
    for name, (device, where) in itertools.product(names, HERE):
        backend, settings = plugins.load("backends", name), point(name, device=device)
        if backend.unavailable() is None and backend.reject(settings, where, source) is None:
            yield pytest.param(name, settings, id=f"{name}-{device}", marks=marks(device))


@pytest.mark.parametrize(("name", "settings", "net"), accepted())
def test_it_computes_the_network_as_asked(name, settings, net, workplace, record_property):
    folder, found = workplace
    model, (network, data), x = found[net]
    backend = plugins.load("backends", name)
    fresh, _, _ = networks.load(folder / net)
    expected = networks.predict(fresh, x, model.output)
    for batch in (1, 3):
        artifact = make(backend.stages({**settings, "batch": batch}, network, data), folder)
        batches = [arrays.rows(x, start, batch) for start in range(0, 60, batch)]
        kept = [{k: v.copy() for k, v in b.items()} for b in batches]
        with backend.open(artifact, settings, batch, settings["threads"]) as session:
            outputs = [session.run(b) for b in batches]
            again = session.run(batches[0])
            facts = session.facts()
            if settings["device"] == "cuda":
                p50 = f"{1e3 * np.median(list(seconds(session.run, batches))):.3f}"
                row = [("point", f"{net}-{told(settings)}"), ("batch", batch), ("p50_ms", p50)]
                record_property("gpu row", [*row, ("kernels", facts["kernels"])])
        assert all(o.shape == (batch, 5) and o.dtype == np.float32 for o in outputs)
        assert all(
            np.array_equal(b[k], c[k]) for b, c in zip(batches, kept, strict=True) for k in b
        )
        np.testing.assert_allclose(again, outputs[0], rtol=1e-3, atol=1e-4)
        check.verify(expected[:60], np.concatenate(outputs), settings["precision"])
        assert facts["threads"] == settings["threads"]
        assert facts["provider"]
        assert facts["kernels"].get(settings["precision"], 0) > 0
        if settings["precision"] == "fp32":
            assert {k for k, n in facts["kernels"].items() if n} == {"fp32"}


@pytest.mark.parametrize(("name", "settings"), running(ModelSource(CodeRef("task.py", "build"))))
def test_what_it_returned_stays_when_it_runs_again(name, settings, workplace):
    folder, found = workplace
    _, (network, data), x = found["conv"]
    backend = plugins.load("backends", name)
    artifact = make(backend.stages(settings, network, data), folder)
    with backend.open(artifact, settings, 1, threads=1) as session:
        first = session.run(arrays.rows(x, 0, 1))
        kept = first.copy()
        second = session.run(arrays.rows(x, 1, 1))
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("name", "settings"), running(ONNX))
def test_an_onnx_model_with_several_outputs_gives_the_one_asked_for(name, settings, tmp_path):
    model = ModelSource(onnx="model.onnx", output=1)
    backend = plugins.load("backends", name)

    class Pair(nn.Module):
        def forward(self, x):
            return x + 1, x * 3

    (tmp_path / "model").mkdir()
    torch.onnx.export(
        Pair(),
        (torch.ones(2, 3),),
        str(tmp_path / "model" / "model.onnx"),
        input_names=["x"],
        output_names=["more", "thrice"],
        dynamic_axes={"x": {0: "n"}},
        dynamo=False,
    )
    networks.write_source(model, tmp_path / "model")
    x = np.arange(3, dtype=np.float32)[None]
    (tmp_path / "data").mkdir()
    arrays.write(tmp_path / "data", {"test": ({"x": x}, None)})
    stages = (Stage("model", "", "onnx"), Stage("data", "", "data"))
    artifact = make(backend.stages(settings, *stages), tmp_path)
    with backend.open(artifact, settings, 1, threads=1) as session:
        assert np.array_equal(session.run({"x": x}), 3 * x)
