"""The front measured again before it is called the answer (measurement.md, 4: winner's curse).

The best of many noisy measurements is the best partly by luck. So the members of the front, and the
baselines that they are compared with, are measured once more: in fresh processes, each in turn, for
a few rounds. What those tell takes the place of what the search saw; the journal has both.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autotune.artifact import Stage
from autotune.engine.execute import Result
from autotune.engine.graph import Graph, Handle
from autotune.engine.lane import SAMPLES
from autotune.engine.plan import Plan
from autotune.errors import AutotuneError
from autotune.pick import pick, slowness
from autotune.search.effort import effort
from autotune.search.outcome import completed, priced
from autotune.search.propose import front
from autotune.search.prospect import counting
from autotune.search.rounds import RATE, decided, joined
from autotune.slo import QUANTITIES
from autotune.space import Configuration
from autotune.spec import Spec
from autotune.target import Target
from autotune.trial import Estimate, Measurement, Trial

COST = QUANTITIES["cost"].column
SHARE = 0.1
MOST_S = 20.0
"""The confirmation takes at most this share of the time budget, and so many seconds."""
ROUNDS = 3
LEAST_ROUNDS = 2
"""As many members are measured again as fit in so many rounds."""
_EFFORT = {"precision": 0.005, "min_s": 0.2, "max_s": 0.4, "tail_max_s": 2.0, "tail_precision": 0.1}
_LONGEST_S = 4.0
_USUAL_S = 1.5
_POLL_S = 0.2


@dataclass(frozen=True)
class Bench:
    """What a confirmation is made with.

    Attributes:
        spec: What is asked.
        graph: Where stages run; nothing else is under way.
        planner: From a configuration to its stages.
        left_s: Seconds that may still be used; at 0 what is under way is given up.
        tick: Called while something is waited for.
    """

    spec: Spec
    graph: Graph
    planner: Callable[[Configuration], Plan]
    left_s: Callable[[], float]
    tick: Callable[[], None]


def reserve_s(budget_s: float | None) -> float:
    """The seconds that a search keeps back for its confirmation."""
    return MOST_S if budget_s is None else min(MOST_S, SHARE * budget_s)


def confirm(trials: Sequence[Trial], bench: Bench) -> Iterator[Trial]:
    """Measure the front again and give its members with what was found.

    Whoever comes to the front by that is measured again too; who was in an earlier session is not.
    """
    known = {trial.number: trial for trial in trials}
    tried = {trial.number for trial in trials if _rounds(trial)}
    while bench.left_s() > 0:
        wanted = [t for t in members(list(known.values()), bench.spec) if t.number not in tried]
        chosen = _fitting([t for t in wanted if _measurable(t, bench)], bench)
        if not chosen:
            return
        tried |= {trial.number for trial in chosen}
        found = _measure(chosen, bench)
        for trial in chosen:
            if trial.measurement is not None:
                again = _confirmed(trial, trial.measurement, found.get(trial.number, []), bench)
                known[trial.number] = again
                yield again


def members(trials: Sequence[Trial], spec: Spec) -> list[Trial]:
    """Whom to confirm, the most important first: the pick, the front, each with its baseline."""
    seen = {c for t in trials if t.measurement is not None for c in t.measurement.values}
    wanted = {c: d for c, d in counting(spec).items() if c in seen}
    shown = {c: d for c, d in spec.objectives.items() if c in seen}
    order = _picked(trials, spec)
    for columns in (shown, wanted):
        for target in spec.targets:
            mine = [t for t in trials if _target(t, spec) == target]
            order += sorted(front(mine, columns), key=lambda t: slowness(t, spec.scenario.figure))
    found: dict[int, Trial] = {}
    for trial in order:
        for one in (trial, *_baseline(trial, trials)):
            found.setdefault(one.number, one)
    return list(found.values())


def _picked(trials: Sequence[Trial], spec: Spec) -> list[Trial]:
    cost = QUANTITIES["cost"]
    default = cost if cost.column in spec.objectives else spec.scenario.figure
    try:
        number = pick(trials, spec.slo, default).trial
    except AutotuneError:  # nothing fits
        return []
    return [trial for trial in trials if trial.number == number]


def _baseline(trial: Trial, trials: Iterable[Trial]) -> list[Trial]:
    """The baseline at the trial's batch on its target."""

    def place(t: Trial) -> list[object]:
        return [t.configuration.get(knob) for knob in ("batch", "target")]

    alike = (t for t in trials if t.origin == "baseline" and t.measurement is not None)
    return [t for t in alike if place(t) == place(trial)][:1]


def _measurable(trial: Trial, bench: Bench) -> bool:
    """Whether there are samples of it, and the artifact that they are of."""
    latency = bench.planner(trial.configuration).latency
    store = bench.graph.store
    first = store.open(latency.key)
    sampled = first is not None and (first / SAMPLES).exists()
    return sampled and all(store.has(stage.key) for stage in latency.inputs)


def _fitting(wanted: Sequence[Trial], bench: Bench) -> list[Trial]:
    """The first of them, as many as fit into the time left."""
    lanes = sum(target.lanes for target in bench.spec.targets)
    left, chosen = bench.left_s() * lanes, []
    longest = effort(bench.spec).tail_max_s + _USUAL_S if _serves(bench) else _LONGEST_S
    for trial in wanted:
        left -= LEAST_ROUNDS * min(longest, trial.stage_seconds.get("latency", _USUAL_S))
        if left < 0:
            break
        chosen.append(trial)
    return chosen


def _measure(trials: Sequence[Trial], bench: Bench) -> Mapping[int, list[Result]]:
    """Rounds over the trials, each in an order of its own; what ended well, by trial."""
    found: defaultdict[int, list[Result]] = defaultdict(list)
    for number in range(ROUNDS):
        order = random.Random(f"{bench.spec.seed} round {number}").sample(trials, len(trials))
        handles = {t.number: bench.graph.submit(_stage(t, number, bench)) for t in order}
        _wait(list(handles.values()), bench)
        for trial, handle in handles.items():
            if handle.result is not None and handle.result.ok:
                found[trial].append(handle.result)
        if bench.left_s() <= 0:
            break
    return found


def _stage(trial: Trial, number: int, bench: Bench) -> Stage:
    """The trial's latency stage with a key of its own for each round.

    It is shorter than in the search, but for a server, whose rate would not be found.
    """
    latency = bench.planner(trial.configuration).latency
    effort = {**latency.parameters["effort"], **({} if _serves(bench) else _EFFORT)}
    parameters = {**latency.parameters, "effort": effort, "round": number}
    return replace(latency, name="confirm", parameters=parameters)


def _wait(handles: Sequence[Handle], bench: Bench) -> None:
    while any(handle.result is None for handle in handles):
        if bench.left_s() <= 0:
            for handle in handles:
                bench.graph.cancel(handle)
            return
        bench.graph.step(_POLL_S)
        bench.tick()


def _confirmed(trial: Trial, old: Measurement, results: Sequence[Result], bench: Bench) -> Trial:
    """The trial with what the rounds told; with what it had and 0 rounds, where they told nothing.

    Rounds that were disturbed count where the first measurement was disturbed as well.
    """
    results = [r for r in results if decided(r)]
    calm = [r for r in results if not r.facts["noisy"]]
    used = calm or (list(results) if old.facts.get("noisy") else [])
    told: dict[str, Any] = {"rounds": len(used), "noisy_rounds": len(results) - len(calm)}
    values, beside = dict(old.values), dict[str, Any]()
    if used:
        kind, batch = bench.spec.scenario.kind, int(trial.configuration["batch"])
        fresh, beside = joined(used, kind, batch, bench.graph.store)
        if not _serves(bench):
            fresh = {c: _better_known(e, values.get(c)) for c, e in fresh.items()}
        fresh |= priced(fresh, _target(trial, bench.spec))
        told["before"] = {
            c: [e.value, e.low, e.high] for c, e in values.items() if _stale(c, fresh)
        }
        values = {c: e for c, e in values.items() if not _stale(c, fresh)} | fresh
    facts = {**old.facts, **beside, "confirmed": told}
    return replace(trial, outcome=completed(Measurement(values, facts, old.samples)))


def _stale(column: str, fresh: Mapping[str, Estimate]) -> bool:
    """Whether a column is no more what it was: measured again, or told of another rate."""
    return column in fresh or column == COST or (RATE in fresh and column.startswith("latency_"))


def _serves(bench: Bench) -> bool:
    return bench.spec.scenario.kind == "server"


def _rounds(trial: Trial) -> int:
    """The rounds that the trial was confirmed in."""
    facts = trial.measurement.facts if trial.measurement else {}
    return int(facts.get("confirmed", {}).get("rounds", 0))


def _better_known(new: Estimate, old: Estimate | None) -> Estimate:
    """The confirmed value; where the rounds were too short for its upper bound, what was known."""
    return old if new.high is None and old is not None and old.high is not None else new


def _target(trial: Trial, spec: Spec) -> Target:
    name = str(trial.configuration.get("target", spec.targets[0].name))
    return next(target for target in spec.targets if target.name == name)
