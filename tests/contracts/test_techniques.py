"""What every technique must do; a new file in autotune/techniques is tested by existing."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from autotune import hardware, plugins
from autotune.artifact import Stage
from autotune.contracts import TechniqueContext
from autotune.engine.plan import Effort, Subject, plan
from autotune.space import ALWAYS, Configuration
from autotune.target import Target
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import network as networks

NETS = '''
import torch
from torch import nn

class Residual(nn.Module):
    """Grouped convolutions, a shortcut, a linear head."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.grouped = nn.Conv2d(width, width, 3, padding=1, groups=4)
        self.mix = nn.Conv2d(width, width, 1)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        y = torch.relu(self.norm(self.stem(x)))
        y = torch.relu(self.mix(torch.relu(self.grouped(y))) + y)
        return self.head(y.mean((2, 3)))

class Dense(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x):
        return self.layers(x)

def residual(width=16):
    torch.manual_seed(1)
    return Residual(width)

def dense(width=16):
    torch.manual_seed(1)
    return Dense(width)
'''
NETWORKS = ("residual", "dense")
CHANGED = {
    "prune.structure": "channel",
    "prune.ratio": 0.5,
    "prune.round_to": 2,
    "precision": "int8",
}
"""Values that make a technique do something where its defaults do not."""
names = plugins.names("techniques")
TRAINED = [n for n in names if plugins.load("techniques", n).trains(CHANGED)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    file = tmp_path_factory.mktemp("techniques") / "nets.py"
    file.write_text(NETS)
    return {n: ModelSource(CodeRef(str(file), n), {"width": 16}) for n in NETWORKS}


def settings_for(technique, model):
    """Its defaults, in a point in which it is active: of the knobs that exist there."""
    found = {k: v for k, v in CHANGED.items() if k.split(".")[0] in technique.sections}
    for section, parameters in technique.parameters(model).items():
        for p in parameters:
            if p.when.holds(CHANGED | found):
                found.setdefault(f"{section}.{p.name}", p.default)
    found |= {k: 1 for k in found if k.endswith(".epochs")}
    return found | {k: 8 for k in found if k == "student.width"}


def context(model, technique, folder, seed=0):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(48, 1, 8, 8)).astype(np.float32)
    y = rng.integers(3, size=48)
    logits = rng.normal(size=(48, 3)).astype(np.float32) if technique.needs_teacher else None
    return TechniqueContext(
        build=lambda blueprint: networks.build(model, blueprint),
        blueprint=Blueprint(model.args),
        train_x={"input": x} if technique.needs_data else {},
        train_y=y,
        teacher_logits=logits,
        teacher_features=None,
        seed=seed,
        checkpoint=folder / "training.pt",
    )


def applied(name, model, folder, seed=0):
    technique = plugins.load("techniques", name)
    return technique.apply(
        networks.given(model),
        settings_for(technique, model),
        context(model, technique, folder, seed),
    )


def target():
    return Target("here", 1, 1, None, hardware.machine())


@pytest.mark.parametrize("name", names)
def test_its_metadata_needs_no_heavy_library(name):
    code = (
        "import sys; from autotune import plugins; from autotune.task import ModelSource;"
        f"p = plugins.load('techniques', {name!r}); m = ModelSource(args={{'width': 8}});"
        "p.parameters(m); p.when(m);"
        "heavy = {l.replace('-', '_') for l in p.libraries} | {'torch'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", names)
def test_what_it_declares_is_legal(name, models):
    technique = plugins.load("techniques", name)
    model = models["residual"]
    assert technique.summary
    assert 0 < technique.position < 100
    sections = technique.parameters(model)
    assert set(sections) <= set(technique.sections)
    for parameter in [p for parameters in sections.values() for p in parameters]:
        assert isinstance(parameter.default, parameter.kind)
        assert not parameter.choices or parameter.default in parameter.choices
        assert parameter.low is None or parameter.low <= parameter.default
        assert parameter.high is None or parameter.default <= parameter.high
        assert parameter.help
    assert all(
        plugins.version(library).split("==")[1] != "absent" for library in technique.libraries
    )


def test_no_two_stand_at_one_place():
    positions = [plugins.load("techniques", name).position for name in names]
    assert len(set(positions)) == len(positions)


@pytest.mark.parametrize("name", names)
def test_it_is_active_where_it_says_and_only_there(name, models):
    technique = plugins.load("techniques", name)
    model = models["residual"]
    when = technique.when(model)
    settings = settings_for(technique, model)
    everything = settings | CHANGED | {"student.width": 8}
    plain = {"prune.structure": "none", "precision": "fp32"}
    neutral = everything | plain | {"student.width": model.args["width"]}
    assert when != ALWAYS
    assert when.holds(everything)
    assert not when.holds(neutral)
    assert technique.reject(everything, target(), model) is None


@pytest.mark.parametrize("name", names)
def test_patience_is_refused_where_the_user_trains(name, models):
    technique, model = plugins.load("techniques", name), models["residual"]
    own = dataclasses.replace(model, train=CodeRef(model.factory.file, "learn"))
    for section, parameters in technique.parameters(model).items():
        for word in (p.name for p in parameters if p.name == "patience"):
            asked = {f"{section}.{word}": 3}
            assert technique.reject(asked, target(), model) is None
            assert technique.reject({f"{section}.{word}": 0}, target(), own) is None
            reason = technique.reject(asked, target(), own).reason
            assert "learn()" in reason
            assert f"{section}.{word}" in reason


@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("name", names)
def test_it_keeps_the_outputs_shape_and_comes_back_exactly(name, net, models, tmp_path):
    changed, blueprint = applied(name, models[net], tmp_path)
    x = {"input": np.random.default_rng(1).normal(size=(5, 1, 8, 8)).astype(np.float32)}
    before = networks.predict(networks.given(models[net]), x, 0)
    changed.eval()
    after = networks.predict(changed, x, 0)
    assert after.shape == before.shape == (5, 3)
    assert not np.array_equal(after, before)
    folder = tmp_path / "saved"
    folder.mkdir()
    networks.save(changed, blueprint, models[net], folder)
    loaded, kept, model = networks.load(folder)
    assert np.array_equal(networks.predict(loaded, x, 0), after)
    assert (kept, model) == (blueprint, models[net])
    loaded(torch.ones(2, 1, 8, 8)).sum().backward()
    assert all(p.grad.shape == p.shape for p in loaded.parameters())


@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("name", names)
def test_its_randomness_is_its_seeds(name, net, models, tmp_path):
    torch.manual_seed(11)
    first, _ = applied(name, models[net], tmp_path, seed=3)
    torch.manual_seed(12)
    np.random.seed(12)  # noqa: NPY002 - the generator a technique must not depend on
    second, _ = applied(name, models[net], tmp_path, seed=3)
    one, two = first.state_dict(), second.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("name", TRAINED)
def test_another_seed_trains_another_network(name, models, tmp_path):
    first, _ = applied(name, models["dense"], tmp_path, seed=3)
    second, _ = applied(name, models["dense"], tmp_path, seed=4)
    one, two = first.state_dict(), second.state_dict()
    assert any(not torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("name", names)
def test_its_key_holds_its_own_sections_and_no_other(name, models):
    """A change in another's section leaves its stage, less what comes before it, as it is."""
    model = models["residual"]
    technique = plugins.load("techniques", name)
    base = everything(model)
    own = stage(base, name, model)
    for knob, value in base.items():
        other = {bool: not value, str: "other"}.get(type(value), 0 if value else 1)
        changed = stage(base | {knob: other}, name, model)
        if knob.split(".")[0] in technique.sections:
            assert changed is None or changed.parameters != own.parameters, knob
        elif knob not in technique.when(model).knobs():
            assert changed.parameters == own.parameters, knob


def everything(model):
    """A point in which every technique is active."""
    found = {}
    for other in names:
        found |= settings_for(plugins.load("techniques", other), model)
    return found | {"batch": 1, "threads": 1, "precision": "int8", "backend": "onnxruntime",
                    "onnxruntime.level": "all"}  # fmt: skip


def stage(settings, name, model):
    subject = Subject(model, Stage("model", "", "network"), Stage("data", "", "data"), {}, 0)
    fixed = settings | {"backend": "onnxruntime", "precision": "int8"}
    point = Configuration(tuple(sorted(fixed.items())))
    chain = plan(point, subject, {"local": target()}, Effort()).chain()
    return next((s for s in chain if s.parameters.get("technique") == name), None)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", names)
def test_its_structure_has_the_shapes_of_what_it_makes(name, network, models, tmp_path):
    technique, model = plugins.load("techniques", name), models[network]
    given = context(model, technique, tmp_path)
    settings = settings_for(technique, model)
    sections = technique.shapes(settings)
    assert set(sections) <= set(technique.sections)
    alone = {k: v for k, v in settings.items() if k.split(".")[0] in sections}
    made, made_args = technique.apply(networks.given(model), settings, given)
    shaped, shaped_args = technique.structure(networks.given(model), alone, given)
    assert made_args == shaped_args
    assert {k: v.shape for k, v in made.state_dict().items()} == {
        k: v.shape for k, v in shaped.state_dict().items()
    }
    if not sections:
        kept = networks.given(model).state_dict()
        assert {k: v.shape for k, v in shaped.state_dict().items()} == {
            k: v.shape for k, v in kept.items()
        }
