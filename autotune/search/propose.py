"""What to try next: a queue of starts, then the sampler and steps from the front in turn."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autotune import plugins
from autotune.front import non_dominated
from autotune.slo import Direction
from autotune.space import Configuration, Space
from autotune.trial import Origin, Trial

EXPLORED = 10
"""So many proposals come from the sampler alone before every second one steps from the front."""


@dataclass(frozen=True)
class Proposal:
    """A configuration to try, who had the idea, and its number where it began before."""

    configuration: Configuration
    origin: Origin
    number: int | None = None


class Proposer:
    """Proposals without repeats, from a queue, a sampler and mutations of the front.

    Args:
        space: What is searched.
        objectives: Columns and their better direction.
        sampler: The sampler's name.
        seed: With the history's length it decides every random choice.
        queue: What comes first, in order.
        cost_s: Predicted seconds of the work that a configuration would add.
    """

    def __init__(
        self,
        space: Space,
        objectives: Mapping[str, Direction],
        sampler: str,
        seed: int,
        queue: Iterable[Proposal],
        cost_s: Callable[[Configuration], float],
    ) -> None:
        self._space = space
        self._objectives = objectives
        self._suggest = plugins.load("samplers", sampler).sampler(space, objectives)
        self._seed = seed
        self._queue = deque(queue)
        self._cost_s = cost_s
        self._searched = [knob.name for knob in space.searched()]

    def __call__(
        self, history: Sequence[Trial], *, cheap: bool = False, most_s: float = math.inf
    ) -> Proposal | None:
        """The next one; None where every point has been tried.

        With ``cheap`` a step from the front comes before the sampler's idea: most such steps share
        everything that is dear with a trial that is there. What would take more than ``most_s``
        seconds gives way to such a step that would not; where there is none, it is given all the
        same.
        """
        seen = {trial.configuration.key for trial in history}
        while self._queue:
            proposal = self._queue.popleft()
            new = proposal.configuration.key not in seen
            if new and self._cost_s(proposal.configuration) <= most_s:
                return proposal
        turn = sum(trial.origin in ("sampler", "mutation") for trial in history)
        stepped = cheap or (turn >= EXPLORED and turn % 2)
        step = self._mutation(history, seen, most_s) if stepped else None
        if step is not None:
            return Proposal(step, "mutation")
        point = self._suggest(history, self._seed)
        if point is None:
            return None
        if self._cost_s(point) > most_s and not stepped:
            step = self._mutation(history, seen, most_s)
        return Proposal(point, "sampler") if step is None else Proposal(step, "mutation")

    def _mutation(
        self, history: Sequence[Trial], seen: set[str], most_s: float
    ) -> Configuration | None:
        """An untried point one knob away from a front member; cheap ones more often."""
        rng = random.Random(f"{self._seed} step {len(history)}")
        members = front(history, self._objectives)
        rng.shuffle(members)
        for member in members:
            costs = {p: self._cost_s(p) for p in self._neighbours(member.configuration, seen)}
            near = [point for point, cost_s in costs.items() if cost_s <= most_s]
            if near:
                return rng.choices(near, [1 / (0.5 + costs[point]) for point in near])[0]
        return None

    def _neighbours(self, point: Configuration, seen: set[str]) -> list[Configuration]:
        names = [name for name in self._searched if name in point]
        near = (n for name in names for n in self._space.neighbours(point, name))
        return list({n.key: n for n in near if n.key not in seen}.values())


def front(history: Sequence[Trial], objectives: Mapping[str, Direction]) -> list[Trial]:
    """The completed trials that no other dominates."""
    measured = [
        (trial, [m[column] for column in objectives])
        for trial in history
        if (m := trial.measurement) is not None and all(c in m.values for c in objectives)
    ]
    if not measured:
        return []
    maximise = [direction == "max" for direction in objectives.values()]
    mask = non_dominated(np.array([row for _, row in measured]), maximise)
    return [trial for (trial, _), keep in zip(measured, mask, strict=True) if keep]
