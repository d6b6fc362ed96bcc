"""Random points: each active knob drawn by itself, no point twice."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from autotune.contracts import Suggest
from autotune.errors import Infeasible
from autotune.slo import Direction
from autotune.space import Configuration, Space
from autotune.trial import Trial

summary = "random points without repeats"

_TRIES = 100


def sampler(space: Space, objectives: Mapping[str, Direction]) -> Suggest:
    """A proposer that looks at the history only to avoid repeats.

    A branch of the space that has few points is drawn as often as its siblings that have many,
    until it is used up.
    """
    grid = space.grid()

    def suggest(history: Sequence[Trial], seed: int) -> Configuration | None:
        seen = {trial.configuration.key for trial in history}
        left = None if grid is None else [p for p in grid.points if p.key not in seen]
        if left is not None and not left:
            return None
        rng = random.Random(f"{seed} {len(history)}")
        point = _draw(space, seen, rng)
        return rng.choice(left) if point is None and left else point

    return suggest


def _draw(space: Space, seen: set[str], rng: random.Random) -> Configuration | None:
    """A feasible point that is not in ``seen``; None where a fair number of draws found none."""
    for _ in range(_TRIES):
        try:
            point = space.draw(rng)
        except Infeasible:
            return None
        if point.key not in seen:
            return point
    return None
