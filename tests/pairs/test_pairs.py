"""Every pair of techniques and precisions on a tiny network: they compose, and share their work.

Each pair runs through its real stages, in this process, on one store.
"""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from autotune import spec as specs
from autotune.engine import execute, intake
from autotune.engine.build import OUTPUTS
from autotune.engine.plan import Effort, needs, plan, trains
from autotune.errors import Infeasible
from autotune.search.session import sources
from autotune.search.starts import _default
from autotune.store.artifacts import Store
from autotune.task import CodeRef
from autotune.training import usercode

HERE = Path(__file__).parent
CHANCE = 1 / 3
PRECISIONS = ("fp32", "bf16", "int8", "int8_dynamic", "int8_weights", "int4_weights")
ATOMS = {
    "student": {
        "width": {"student.width": 16},
        "factory": {"student.factory": "small"},
        "shrink": {"student.shrink": 0.5},
    },
    "prune": {
        "channel": {"prune.structure": "channel"},
        "head": {"prune.structure": "head"},
        "unstructured": {"prune.structure": "unstructured"},
        "2:4": {"prune.structure": "2:4"},
        "gradual": {"prune.structure": "channel", "prune.steps": 2},
    },
    "qat": {"qat": {"precision": "int8", "qat.epochs": 1}},
    "keep": {"keep": {"precision": "int8", "ptq.keep": 1}},
    "backend": {
        f"{backend}-{precision}": {"backend": backend, "precision": precision}
        for backend in ("torch", "onnxruntime", "openvino")
        for precision in PRECISIONS
    },
}
"""What is paired, by family; two of one family exclude each other."""
INCOMPATIBLE = {
    ("student.factory", "prune.head"): "nothing in it has heads",
    **{
        ("student.factory", f"backend.{name}"): "half of its products or more are convolutions"
        for name in ATOMS["backend"]
        if name.endswith(("_dynamic", "_weights"))
    },
}
"""Pairs of which a stage must refuse to work, and why."""


def pairs():
    for one, two in itertools.combinations(ATOMS, 2):
        for (a, first), (b, second) in itertools.product(ATOMS[one].items(), ATOMS[two].items()):
            if all(second.get(k, v) == v for k, v in first.items()):  # an INT8 of FP32 is none
                yield (f"{one}.{a}", f"{two}.{b}"), first | second


PAIRS = dict(pairs())


class Bench:
    """The tiny task taken in, and its stages run on demand, each once."""

    def __init__(self, folder: Path) -> None:
        for name in ("task.py", "space.yaml"):
            shutil.copy(HERE / name, folder / name)
        shutil.copy(HERE.parent / "tiny" / "task.py", folder / "gratings.py")
        usercode.load(CodeRef(str(folder / "task.py"), "train"))(folder / "teacher.pt")
        self.spec = specs.load(folder / "space.yaml")
        self.store = Store(folder / "store")
        spec = self.spec
        process = intake.start(
            spec.model, spec.data, sources(spec), folder / "store", needs(spec.space, spec.model)
        )
        self.subject, _ = intake.finish(process, 0)
        self.results = {}

    def point(self, settings):
        defaults = {knob.name: _default(self.spec, knob) for knob in self.spec.space.knobs}
        return self.spec.space.configure({**defaults, "backend": "onnxruntime", **settings})

    def plan(self, settings):
        targets = {target.name: target for target in self.spec.targets}
        return plan(self.point(settings), self.subject, targets, Effort())

    def possible(self, settings):
        """The plan, or None where the space rejects it."""
        try:
            return self.plan(settings)
        except Infeasible:
            return None

    def run(self, stage):
        if stage.key not in self.results:
            inputs = [self.run(before) for before in stage.inputs]
            root = str(self.store.root)
            self.results[stage.key] = execute.run(stage, root, None, False, *inputs)
        return self.results[stage.key]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("pairs"))


def test_every_atom_but_the_declared_gaps_can_be_had(bench):
    """No technique is missing because everything rejects it."""
    rejected = {}
    for family, atoms in ATOMS.items():
        for name, settings in atoms.items():
            try:
                bench.point(settings)
            except Infeasible as error:
                rejected[f"{family}.{name}"] = str(error)
    assert all(len(reason.split()) > 3 for reason in rejected.values())
    assert {name.split(".")[0] for name in rejected} <= {"backend"}
    there = {n.split("-")[1] for n in ATOMS["backend"] if f"backend.{n}" not in rejected}
    assert {"fp32", "int8", "int8_dynamic", "int8_weights", "int4_weights"} <= there


@pytest.mark.slow
@pytest.mark.parametrize("names", PAIRS, ids=lambda names: "+".join(names))
def test_a_pair_composes(names, bench):
    found = bench.possible(PAIRS[names])
    if found is None:
        return  # declared so, with a reason
    result = bench.run(found.accuracy)
    if names in INCOMPATIBLE:
        assert not result.ok
        return
    assert result.ok, f"{result.stage}: {result.error}"
    outputs = np.load(bench.store.open(found.accuracy.key) / OUTPUTS)
    assert outputs.shape == (96, 3)
    assert np.isfinite(outputs).all()
    accuracy = result.facts["columns"]["accuracy"]["value"]
    assert accuracy > CHANCE + 0.2, accuracy


@pytest.mark.parametrize("names", PAIRS, ids=lambda names: "+".join(names))
def test_a_pair_shares_what_is_equal(names, bench):
    """What the earlier technique makes alone is what it makes in the pair; nothing is a copy."""
    first, second = names
    family, _, atom = first.partition(".")
    both, alone = bench.possible(PAIRS[names]), bench.possible(ATOMS[family][atom])
    if both is None or alone is None:
        return  # declared so, with a reason
    keys = {stage.key for stage in both.network.chain()}
    made = [stage for stage in alone.network.chain() if trains(stage)]
    if family == "student":  # it comes before everything else
        assert {stage.key for stage in made if stage.name == "distill"} <= keys
    if second.startswith("backend"):  # a precision changes nothing before the conversion
        assert {stage.key for stage in alone.network.chain() if stage.name != "qat"} <= keys
