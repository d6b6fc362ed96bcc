"""Tree-structured Parzen estimator by Optuna, over the conditional space, no point twice.

The history is the only truth. An in-memory study is fed from it, and thrown away where the two do
not agree any more. A question leaves no trace in the study: it ends as a failed trial, which
Optuna's samplers do not look at. Random numbers start anew with each question. So a proposal is a
function of the history and the seed. Facts about Optuna are those of version 5.0.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autotune.contracts import Suggest
from autotune.errors import Infeasible
from autotune.slo import QUANTITIES, Direction
from autotune.space import Configuration, Knob, Range, Scalar, Space
from autotune.trial import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import Trial as Question

summary = "Optuna's multivariate TPE for several objectives"

_ASKS = 8
"""Questions for one proposal: 20 found no better fronts than 5, at twice the time."""
_DRAWS = 100
_QUESTIONS = 200
_BY_RATIO = frozenset(q.column for q in QUANTITIES.values())
"""Positive columns in which a factor counts, not a difference: the study gets logarithms."""

Values = tuple[float, ...]


def sampler(space: Space, objectives: Mapping[str, Direction]) -> Suggest:
    """A proposer by multivariate TPE; a running trial counts as a bad one (constant liar).

    A question that is answered with a known point or one that cannot run is asked again, a few
    times; after that a random one of the points that are left is proposed.
    """
    grid = space.grid()
    axes = tuple(_axis(knob) for knob in space.knobs)
    memory = _Memory(axes, objectives)

    def suggest(history: Sequence[Trial], seed: int) -> Configuration | None:
        seen = {trial.configuration.key for trial in history}
        left = None if grid is None else [p for p in grid.points if p.key not in seen]
        if left is not None and len(left) < 2:
            return left[0] if left else None
        rng = random.Random(f"{seed} {len(history)}")
        study = memory.study(history)
        study.sampler = _optuna_sampler(rng.getrandbits(32))
        asked = (_ask(study, space, axes) for _ in range(_ASKS))
        return _new(asked, seen) or (rng.choice(left) if left else _draw(space, seen, rng))

    return suggest


def _new(points: Iterable[Configuration | None], seen: set[str]) -> Configuration | None:
    return next((p for p in points if p is not None and p.key not in seen), None)


def _draw(space: Space, seen: set[str], rng: random.Random) -> Configuration | None:
    try:
        return _new((space.draw(rng) for _ in range(_DRAWS)), seen)
    except Infeasible:
        return None


# ---- a knob as Optuna sees it --------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """A knob and its Optuna parameter: a position among ``values``, or the number itself.

    Positions of numbers are ordered, those of words and switches are not. A knob with one value
    has no distribution: there is nothing to ask.
    """

    knob: Knob
    values: tuple[Scalar, ...]
    distribution: BaseDistribution | None

    def parameter(self, value: Scalar) -> int | float | None:
        """The parameter that stands for ``value``; None where it is not in the domain."""
        if self.values:
            return next((i for i, v in enumerate(self.values) if _same(v, value)), None)
        return value if not isinstance(value, str) and self.knob.domain.contains(value) else None

    def value(self, parameter: int | float) -> Scalar:
        return self.values[int(parameter)] if self.values else parameter


def _axis(knob: Knob) -> _Axis:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    domain, grid = knob.domain, knob.domain.grid()
    if isinstance(domain, Range) and (grid is None or domain.log):
        kind = IntDistribution if domain.integer else FloatDistribution
        return _Axis(knob, (), kind(domain.low, domain.high, log=domain.log))
    values = grid or ()
    numbers = [v for v in values if not isinstance(v, bool | str)]
    if len(values) == 1:
        return _Axis(knob, values, None)
    if len(numbers) == len(values):
        return _Axis(knob, tuple(sorted(numbers)), IntDistribution(0, len(values) - 1))
    return _Axis(knob, values, CategoricalDistribution(range(len(values))))


def _same(a: Scalar, b: Scalar) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _parameters(axes: Sequence[_Axis], point: Configuration) -> dict[str, int | float] | None:
    """The parameters that stand for ``point``; None where the point is not of this space."""
    parameters: dict[str, int | float] = {}
    for axis in axes:
        if not axis.knob.when.holds(point):
            continue
        name = axis.knob.name
        parameter = axis.parameter(point[name]) if name in point else None
        if parameter is None:
            return None
        if axis.distribution is not None:
            parameters[name] = parameter
    return parameters


# ---- questions -----------------------------------------------------------------------------------


def _ask(study: Study, space: Space, axes: Sequence[_Axis]) -> Configuration | None:
    """Optuna's answer, its active knobs only; None where the point cannot run."""
    from optuna.trial import TrialState

    question = study.ask()
    values: dict[str, Scalar] = {}
    for axis in axes:
        if axis.knob.when.holds(values):
            values[axis.knob.name] = _answer(question, axis)
    study.tell(question, state=TrialState.FAIL)
    try:
        return space.configure(values)
    except Infeasible:
        return None


def _answer(question: Question, axis: _Axis) -> Scalar:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    name, of = axis.knob.name, axis.distribution
    if of is None:
        return axis.values[0]
    if isinstance(of, CategoricalDistribution):
        return axis.value(question.suggest_categorical(name, of.choices))
    if isinstance(of, FloatDistribution):
        return axis.value(float(question.suggest_float(name, of.low, of.high, log=of.log)))
    return axis.value(int(question.suggest_int(name, of.low, of.high, log=of.log)))


# ---- the history as Optuna sees it ---------------------------------------------------------------


@dataclass(frozen=True)
class _Fed:
    """A trial as it stands in the study: under which number (None: not fed), with which values."""

    key: str
    values: Values | None
    number: int | None


@dataclass
class _Memory:
    """A study that agrees with the history last seen."""

    axes: tuple[_Axis, ...]
    objectives: Mapping[str, Direction]
    fed: list[_Fed] = field(default_factory=list)
    cache: Study | None = None

    def study(self, history: Sequence[Trial]) -> Study:
        """The study brought up to date with ``history``.

        It is made anew where the history is no extension of what was fed, or where old questions
        are most of what it holds: they cost Optuna time.
        """
        values = _values(history, self.objectives)
        stale = self.cache is None or _size(self.cache) > 2 * len(self.fed) + _QUESTIONS
        if self.cache is None or stale or not self._extended_by(history, values):
            self.cache, self.fed = _empty_study(self.objectives), []
        for index, (trial, result) in enumerate(zip(history, values, strict=True)):
            if index == len(self.fed):
                self.fed.append(self._added(self.cache, trial, result))
            elif self.fed[index].values is None and result is not None:
                self.fed[index] = _told(self.cache, self.fed[index], result)
        return self.cache

    def _extended_by(self, history: Sequence[Trial], values: Sequence[Values | None]) -> bool:
        if len(self.fed) > len(history):
            return False
        return all(
            fed.key == trial.configuration.key and fed.values in (None, result)
            for fed, trial, result in zip(self.fed, history, values, strict=False)
        )

    def _added(self, study: Study, trial: Trial, values: Values | None) -> _Fed:
        from optuna.trial import TrialState, create_trial

        parameters = _parameters(self.axes, trial.configuration)
        if parameters is None:
            return _Fed(trial.configuration.key, values, None)
        number = _size(study)
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
                values=values,
                params=parameters,
                distributions={
                    axis.knob.name: axis.distribution
                    for axis in self.axes
                    if axis.knob.name in parameters
                },
            )
        )
        return _Fed(trial.configuration.key, values, number)


def _size(study: Study) -> int:
    return len(study.get_trials(deepcopy=False))


def _told(study: Study, fed: _Fed, values: Values) -> _Fed:
    if fed.number is not None:
        study.tell(fed.number, values)
    return _Fed(fed.key, values, fed.number)


def _values(history: Sequence[Trial], objectives: Mapping[str, Direction]) -> list[Values | None]:
    """Every trial's objective values as the study gets them; None while it runs."""
    columns = [_column(history, column, better) for column, better in objectives.items()]
    return [
        None if trial.outcome is None else tuple(column[i] for column in columns)
        for i, trial in enumerate(history)
    ]


def _column(history: Sequence[Trial], column: str, better: Direction) -> list[float]:
    """One objective over the history: the worst seen stands where a trial has no value."""
    found = [_value(trial, column) for trial in history]
    known = [value for value in found if value is not None]
    worst = max(known, default=0.0) if better == "min" else min(known, default=0.0)
    return [worst if value is None else value for value in found]


def _value(trial: Trial, column: str) -> float | None:
    if trial.measurement is None or column not in trial.measurement.values:
        return None
    value = trial.measurement[column]
    if column not in _BY_RATIO:
        return value
    return math.log(value) if value > 0 else None  # a server that serves no rate: the worst seen


# ---- Optuna --------------------------------------------------------------------------------------


def _empty_study(objectives: Mapping[str, Direction]) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=[f"{better}imize" for better in objectives.values()])


def _optuna_sampler(seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(multivariate=True, constant_liar=True, seed=seed)
