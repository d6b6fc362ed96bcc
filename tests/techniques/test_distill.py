"""Distillation: how a student is made, how it is taught, and what is refused."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from autotune import hardware
from autotune.contracts import TechniqueContext
from autotune.conversion import arrays
from autotune.engine import execute, intake
from autotune.engine.plan import Effort, plan
from autotune.errors import StageError, TaskError
from autotune.space import Configuration
from autotune.store.artifacts import Store
from autotune.target import Target
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.techniques import distill
from autotune.training import network as networks
from autotune.training.losses import standardised

TASK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, width), nn.Tanh(), nn.Linear(width, 8), nn.Tanh())
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.body(x))

def build_model(width=16):
    if width == 13:
        raise RuntimeError("thirteen")
    return nn.Linear(4, 3) if width == 5 else Net(width, 4 if width == 7 else 3)

def wide():
    return Net(3, 4)

def broken():
    raise RuntimeError("no network today")

def small():
    return nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 3))
"""


@pytest.fixture(autouse=True)
def one_thread():
    """As a stage trains: sums over two threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model(tmp_path):
    (tmp_path / "task.py").write_text(TASK)
    return ModelSource(CodeRef(str(tmp_path / "task.py"), "build_model"), {"width": 16})


@pytest.fixture
def context(model, tmp_path):
    """Random samples, and a teacher that says what a random projection of them says."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(96, 10)).astype(np.float32)
    features = np.tanh(x @ rng.normal(size=(10, 6))).astype(np.float32)
    logits = (features @ rng.normal(size=(6, 3))).astype(np.float32)
    return TechniqueContext(
        build=lambda blueprint: networks.build(model, blueprint),
        blueprint=Blueprint(model.args),
        train_x={"input": x},
        train_y=logits.argmax(1),
        teacher_logits=logits,
        teacher_features=features,
        seed=0,
        checkpoint=tmp_path / "training.pt",
    )


def settings(model, **changes):
    """Every knob of distillation at its default, a student of width 8, but for the changes."""
    found = {
        f"{section}.{p.name}": p.default
        for section, parameters in distill.parameters(model).items()
        for p in parameters
    }
    words = {k.replace("__", "."): v for k, v in changes.items()}
    found.pop("student.round_to")
    return found | {"student.width": 8, "distill.epochs": 20, "distill.lr": 0.01} | words


def applied(model, context, **changes):
    return distill.apply(networks.given(model), settings(model, **changes), context)[0]


def unexplained(network, context):
    """The share of the teacher's representation that no linear map of the student's gives."""
    with torch.no_grad():
        read = standardised(network.body(torch.from_numpy(context.train_x["input"]))).numpy()
    wanted = standardised(torch.from_numpy(context.teacher_features)).numpy()
    best, *_ = np.linalg.lstsq(read, wanted, rcond=None)
    return float(np.mean((read @ best - wanted) ** 2))


def test_a_student_may_begin_with_the_given_weights_that_fit(model, context):
    given = networks.given(model).state_dict()
    hardly = {"distill__epochs": 1, "distill__lr": 1e-7}
    fresh = applied(model, context, **hardly).state_dict()
    begun = applied(model, context, distill__start="given", **hardly).state_dict()
    assert begun["body.0.weight"].shape != given["body.0.weight"].shape
    for name in ("body.2.bias", "head.weight", "head.bias"):
        assert torch.allclose(begun[name], given[name], atol=1e-4)
        assert not torch.allclose(fresh[name], given[name], atol=1e-4)
    assert torch.allclose(begun["body.0.weight"], fresh["body.0.weight"], atol=1e-4)


def test_given_weights_that_fit_nowhere_are_refused(model, context):
    asked = settings(model, distill__start="given", student__factory="small")
    del asked["student.width"]
    with pytest.raises(StageError, match="no weight of the student has the name and the shape"):
        distill.apply(networks.given(model), asked, context)


def test_a_hint_pulls_the_students_representation_towards_the_teachers(model, context):
    fresh = unexplained(
        distill.structure(networks.given(model), settings(model), context)[0], context
    )
    without = unexplained(applied(model, context), context)
    hinted = unexplained(applied(model, context, distill__hint=5.0), context)
    assert hinted < 0.7 * without
    assert hinted < 0.7 * fresh


def test_a_hint_leaves_the_student_a_plain_network(model, context):
    plain, hinted = applied(model, context), applied(model, context, distill__hint=1.0)
    assert type(hinted).__name__ == "Net"
    assert hinted.state_dict().keys() == plain.state_dict().keys()
    assert not hinted.training
    assert not any(m._forward_pre_hooks for m in hinted.modules())


def test_a_hint_needs_the_teachers_representation(model, context):
    nothing = dataclasses.replace(context, teacher_features=None)
    with pytest.raises(StageError, match="the given model has none"):
        applied(model, nothing, distill__hint=1.0)
    applied(model, nothing, distill__epochs=1)


def test_a_hint_is_refused_where_the_user_trains(model):
    here = Target("here", 1, 1, None, hardware.machine())
    own = dataclasses.replace(model, train=CodeRef(model.factory.file, "learn"))
    asked = settings(model, distill__hint=1.0)
    assert distill.reject(asked, here, model) is None
    assert distill.reject(settings(model), here, own) is None
    assert "learn()" in distill.reject(asked, here, own).reason


def test_patience_ends_a_training_that_leads_nowhere(model, context):
    lines = []
    told = dataclasses.replace(context, report=lines.append)
    applied(model, told, distill__lr=0.0, distill__epochs=9, distill__patience=2)
    assert [line for line in lines if line.startswith("epoch 3 ")]
    assert not [line for line in lines if line.startswith("epoch 4 ")]


@pytest.mark.parametrize("change", [distill.apply, distill.structure])
@pytest.mark.parametrize(
    ("width", "error", "words"),
    [
        (7, StageError, r"shape \(2, 4\) for 2 samples, the given model's \(2, 3\)"),
        (5, StageError, "the student cannot run the training data: RuntimeError: mat1"),
        (13, TaskError, "raised RuntimeError: thirteen"),
    ],
)
def test_a_student_that_cannot_stand_in_is_told(change, width, error, words, model, context):
    with pytest.raises(error, match=words):
        change(networks.given(model), settings(model, student__width=width), context)


@pytest.mark.parametrize(
    ("factory", "error", "words"),
    [
        ("wide", StageError, r"shape \(2, 4\) for 2 samples, the given model's \(2, 3\)"),
        ("broken", TaskError, "raised RuntimeError: no network today"),
        ("Net", TaskError, "it is called without arguments: give them defaults"),
        ("nn", TaskError, "not callable"),
    ],
)
def test_a_factory_of_no_student_is_told(factory, error, words, model, context):
    asked = {"student.factory": factory, "distill.epochs": 1}
    with pytest.raises(error, match=words):
        distill.structure(networks.given(model), asked, context)


# ---- automatic students --------------------------------------------------------------------------


def shrunk(model, context, share, **changes):
    asked = settings(model, student__width=16, student__shrink=share, student__round_to=2)
    return distill.structure(networks.given(model), asked | changes, context)[0]


def test_a_shrunk_student_has_that_share_less_of_every_width(model, context):
    student = shrunk(model, context, 0.5)
    shapes = {name: tuple(p.shape) for name, p in student.named_parameters() if p.dim() == 2}
    assert shapes == {"body.0.weight": (8, 10), "body.2.weight": (4, 8), "head.weight": (3, 4)}


def test_a_shrunk_student_is_initialised_for_the_size_it_has(model, context):
    """PyTorch's linear layers draw from +- 1 / sqrt(inputs): wider with fewer of them."""
    head = shrunk(model, context, 0.5).head.weight.detach().abs()
    assert 1 / np.sqrt(8) < head.max() <= 1 / np.sqrt(4)
    again = shrunk(model, context, 0.5).head.weight.detach().abs()
    other = shrunk(model, dataclasses.replace(context, seed=9), 0.5).head.weight.detach().abs()
    assert torch.equal(head, again)
    assert not torch.equal(head, other)


def test_a_shrunk_student_learns_nothing_from_the_given_weights(model, context):
    given = networks.given(model)
    with torch.no_grad():
        for parameter in given.parameters():
            parameter.mul_(100)
    asked = settings(model, student__width=16, student__shrink=0.5, student__round_to=2)
    found = distill.structure(given, asked, context)[0].state_dict()
    assert all(
        torch.equal(found[k], v) for k, v in shrunk(model, context, 0.5).state_dict().items()
    )


def test_a_share_that_removes_nothing_is_told(model, context):
    with pytest.raises(StageError, match=r"student.shrink 0.1: .* removed nothing"):
        shrunk(model, context, 0.1, **{"student.round_to": 16})


# ---- through the stages --------------------------------------------------------------------------

STUDENTS = {
    "width": {"student.width": 8},
    "factory": {"student.factory": "small"},
    "shrink": {"student.shrink": 0.5, "student.round_to": 4},
}
SMALL = """

def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 16), nn.ReLU(),
        nn.Linear(16, len(DIRECTIONS)),
    )
"""
PARAMETERS = {"width": 707, "factory": 1299, "shrink": 707}


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    """For each way to a student: its plan, the folders of its stages by name; and what ran."""
    folder = tmp_path_factory.mktemp("students")
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    task = folder / "task.py"
    task.write_text(task.read_text() + SMALL)
    model = ModelSource(
        CodeRef(str(task), "build_model"), {"width": 16}, str(folder / "teacher.pt")
    )
    store = Store(folder / "store")
    metrics = {"accuracy": {"plugin": "top1"}}
    process = intake.start(model, CodeRef(str(task), "data"), metrics, store.root)
    subject, _ = intake.finish(process, seed=0)
    here = {"local": Target("local", 1, 1, None, hardware.machine())}
    ran, found = [], {}
    for name, student in STUDENTS.items():
        point = POINT | student
        planned = plan(Configuration(tuple(sorted(point.items()))), subject, here, Effort())
        folders = {}
        for stage in (*planned.network.chain(), *planned.proxy.inputs[0].inputs[0].chain()):
            done = execute.run(stage, str(store.root), None, False)
            assert done.ok, f"{name}: {done.stage}: {done.error}"
            ran += [done.stage] if done.executed else []
            folders[stage.name] = store.open(stage.key)
        found[name] = folders
    return found, ran


POINT = {
    "batch": 1,
    "threads": 1,
    "precision": "fp32",
    "backend": "onnxruntime",
    "distill.epochs": 20,
    "distill.lr": 0.03,
    "distill.hint": 0.5,
}


def test_every_way_makes_a_student_that_learned(results):
    found, _ = results
    for name, folders in found.items():
        student, _, model = networks.load(folders["distill"])
        assert sum(p.numel() for p in student.parameters()) == PARAMETERS[name]
        x, y = arrays.read(folders["data"], "test"), arrays.labels(folders["data"], "test")
        accuracy = np.mean(networks.predict(student, x, model.output).argmax(1) == y)
        assert accuracy > 0.6, name


def test_a_shrunk_student_is_the_one_that_its_factory_makes_at_that_width(results):
    """Half of 16 channels, initialised from the same seed and taught the same: equal to a bit."""
    found, _ = results
    one, two = (networks.load(found[w]["distill"])[0].state_dict() for w in ("width", "shrink"))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_every_way_has_its_shapes_before_it_learned(results):
    found, _ = results
    for name, folders in found.items():
        made, blueprint, _ = networks.load(folders["distill"])
        shaped, same, _ = networks.load(folders["distill (untrained)"])
        assert blueprint == same
        one, two = made.state_dict(), shaped.state_dict()
        assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in two.items()}, name
        assert any(not torch.equal(one[k], two[k]) for k in one)


def test_the_teacher_is_asked_once(results):
    found, ran = results
    assert ran.count("teacher logits") == 1
    assert ran.count("distill") == ran.count("distill (untrained)") == len(STUDENTS)
    assert len({folders["teacher logits"] for folders in found.values()}) == 1
