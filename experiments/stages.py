"""A ready space taken in, and the stages of any of its configurations run on demand, each once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune import spec as specs
from autotune.artifact import Stage
from autotune.engine import execute, intake
from autotune.engine.plan import Effort, Plan, needs, plan
from autotune.search.session import sources
from autotune.search.starts import declared
from autotune.space import Configuration, Scalar
from autotune.store.artifacts import Store


class Bench:
    """Stages of one space, in this process, without Ray.

    Args:
        space: The space file.
        store: The folder of the artifacts; what is there already is not made again.
        more: Sections of the space that the file does not have.
    """

    def __init__(
        self, space: Path, store: Path, more: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        resolved = dict(specs.load(space).resolved)
        resolved["space"] = {**resolved["space"], **(more or {})}
        store.mkdir(parents=True, exist_ok=True)
        file = store / "space.yaml"
        file.write_text(specs.dump(resolved))
        self.spec = specs.load(file)
        self.store = Store(store)
        spec = self.spec
        process = intake.start(
            spec.model, spec.data, sources(spec), store, needs(spec.space, spec.model)
        )
        self.subject, self.facts = intake.finish(process, spec.seed)

    def plan(self, settings: Mapping[str, Scalar], seed: int = 0) -> Plan:
        """The stages of these knobs; every other has its pinned value, or its owner's default."""
        targets = {target.name: target for target in self.spec.targets}
        subject = dataclasses.replace(self.subject, seed=seed)
        return plan(self._point(settings), subject, targets, Effort(timeout_s=3600.0))

    def run(self, stage: Stage) -> execute.Result:
        """The result of a stage and of all before it.

        Raises:
            SystemExit: It failed; the message has its reason.
        """
        inputs = [self.run(before) for before in stage.inputs]
        found = execute.run(stage, str(self.store.root), None, False, *inputs)
        if not found.ok:
            raise SystemExit(f"{found.stage}: {found.error}\n{found.traceback}")
        return found

    def accuracy(self, settings: Mapping[str, Scalar], seed: int = 0) -> float:
        """The first metric of a configuration on the test data."""
        facts = self.run(self.plan(settings, seed).accuracy).facts
        return float(facts["columns"][next(iter(self.spec.metrics))]["value"])

    def entry(self, name: str, settings: Mapping[str, Scalar], seed: int = 0) -> dict[str, Any]:
        """A configuration as ``interleave.compare`` wants it."""
        latency = self.plan(settings, seed).latency
        self.run(latency.inputs[0])
        return {
            "name": name,
            "artifact": self.store.open(latency.inputs[0].key),
            "backend": latency.parameters["backend"],
            "settings": latency.parameters["settings"],
            "batch": latency.parameters["batch"],
        }

    def infeasible(self, settings: Mapping[str, Scalar]) -> str | None:
        """Why these knobs cannot run, or None."""
        point = self._point(settings)
        return next((why for rule in self.spec.space.rules if (why := rule(point))), None)

    def data(self) -> Path:
        """The folder of the data's artifact."""
        folder = self.store.open(self.subject.data.key)
        if folder is None:
            raise SystemExit("the data left the store")
        return folder

    def _point(self, settings: Mapping[str, Scalar]) -> Configuration:
        """The knobs that exist for these settings, in the space or not."""
        values: dict[str, Scalar] = {}
        for knob in self.spec.space.knobs:
            default = next((p.default for p in declared(self.spec, knob)), None)
            grid = knob.domain.grid()
            if default is None or (grid and len(grid) == 1):  # no default, or pinned by the space
                default = grid[0] if grid else knob.domain.low
            values[knob.name] = default
        unknown = set(settings) - {knob.name for knob in self.spec.space.knobs}
        if unknown:
            raise SystemExit(f"not in the space: {', '.join(sorted(unknown))}")
        values |= {"batch": 1, "threads": 1, "precision": "fp32", "backend": "torch"}
        values |= settings
        kept: dict[str, Scalar] = {}
        for knob in self.spec.space.knobs:
            if knob.when.holds(kept):
                kept[knob.name] = values[knob.name]
        return Configuration(tuple(sorted(kept.items())))
