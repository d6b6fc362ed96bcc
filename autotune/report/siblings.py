"""Pairs of trials that differ in one family of compression knobs alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from autotune.runfolder import RunData
from autotune.space import Scalar, Settings
from autotune.trial import Trial

Pair = tuple[Trial, Trial]
"""A trial, and its sibling without the compression."""

_FAMILIES = {"distill": "student", "finetune": "prune", "ptq": "precision", "weights": "precision"}
"""Sections that say how another is done; they count as part of it."""
_ORDER = ("student", "prune", "qat", "precision", "server")
_RUNTIME = ("target", "batch", "threads", "backend")
_ESSENTIAL = ("precision", "prune.structure", "prune.ratio")
"""Knobs that are named even where the run gave them a single value."""
_OFF: tuple[Scalar, ...] = ("none", "fp32", "", False, 0)
"""What a knob that the baseline does not have says where nothing is done."""


class Siblings:
    """The completed trials of a run, read family by family.

    Attributes:
        done: The completed trials.
        families: Every family whose knobs some trial has: first word of a knob's name.
    """

    def __init__(self, run: RunData) -> None:
        self.done = [trial for trial in run.trials if trial.measurement is not None]
        given = [t.configuration for t in run.trials if t.origin == "baseline"]
        self._given: Settings = given[0] if given else {}
        backends = {str(t.configuration.get("backend")) for t in run.trials}
        names = {name for t in run.trials for name in t.configuration}
        self._family = {name: f for name in names if (f := _family(name, backends))}
        found = set(self._family.values())
        self.families = [f for f in _ORDER if f in found] + sorted(found - set(_ORDER))
        self._varied = _varied(run.trials)

    def pairs(self) -> Iterator[tuple[str, Pair]]:
        """Each family with the pairs that differ in nothing else.

        A knob of the runtime that only one of two trials has, because it hangs on the family, is
        no difference.
        """
        for family in self.families:
            plain: dict[str, list[Trial]] = defaultdict(list)
            for trial in self.done:
                if not self.active(trial, family):
                    plain[self._elsewhere(trial, family)].append(trial)
            for trial in self.done:
                if self.active(trial, family):
                    near = plain[self._elsewhere(trial, family)]
                    sibling = next((t for t in near if self._runs_alike(trial, t)), None)
                    if sibling is not None:
                        yield family, (trial, sibling)

    def active(self, trial: Trial, family: str) -> Settings:
        """The family's knobs that are not as in the model as given; empty where it does nothing."""
        mine = {
            name: value
            for name, value in trial.configuration.items()
            if self._family.get(name) == family and not self._untouched(name, value)
        }
        return mine if any(name.partition(".")[0] == family for name in mine) else {}

    def setting(self, trial: Trial, family: str) -> str:
        """``prune channel, ratio 0.5``: what is searched, or essential, and not as given."""
        mine = self.active(trial, family)
        shown = [name for name in mine if name in self._varied or name in _ESSENTIAL]
        shown.sort(key=lambda n: (n.partition(".")[0] != family, not isinstance(mine[n], str), n))
        return f"{family} {', '.join(_said(name, mine[name]) for name in shown)}".rstrip()

    def others(self, trial: Trial, family: str) -> list[str]:
        """The settings of all other families that do something in the trial."""
        return [
            self.setting(trial, f) for f in self.families if f != family and self.active(trial, f)
        ]

    def order(self, key: Sequence[str]) -> tuple[int, Sequence[str]]:
        """Sorts tuples that begin with a family."""
        return self.families.index(key[0]), key

    def _untouched(self, name: str, value: Scalar) -> bool:
        if name in self._given:
            return _same(self._given[name], value)
        return any(_same(off, value) for off in _OFF)

    def _elsewhere(self, trial: Trial, family: str) -> str:
        """What two trials must have in common: where they run, and every other family."""
        runtime = [trial.configuration.get(name) for name in _RUNTIME]
        rest = [sorted(self.active(trial, f).items()) for f in self.families if f != family]
        return repr((runtime, rest))

    def _runs_alike(self, one: Trial, other: Trial) -> bool:
        shared = set(one.configuration) & set(other.configuration) - set(self._family)
        return all(_same(one.configuration[n], other.configuration[n]) for n in shared)


def _family(name: str, backends: set[str]) -> str:
    """What a knob compresses; "" for a knob of the runtime."""
    section = name.partition(".")[0]
    if name in _RUNTIME or section in backends:
        return ""
    return _FAMILIES.get(section, section)


def _varied(trials: Sequence[Trial]) -> set[str]:
    values: dict[str, set[str]] = defaultdict(set)
    for trial in trials:
        for name, value in trial.configuration.items():
            values[name].add(repr(value))
    return {name for name, found in values.items() if len(found) > 1}


def _same(one: Scalar, other: Scalar) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _said(name: str, value: Scalar) -> str:
    word = name.rpartition(".")[2].replace("_", " ")
    if isinstance(value, bool):
        return word if value else f"no {word}"
    return value if isinstance(value, str) else f"{word} {value:g}"
