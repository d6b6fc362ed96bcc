"""autotune's proposals as a search algorithm of Tune's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from autotune.errors import Infeasible, UserError
from autotune.integrations.ray_tune.reporting import outcome
from autotune.integrations.ray_tune.space import configuration, in_flight, suggested
from autotune.runfolder import encode_outcome, trials
from autotune.search.propose import Proposal, Proposer
from autotune.search.starts import baselines, experts
from autotune.space import Configuration
from autotune.spec import Spec
from autotune.trial import Origin, Trial


class AutotuneSearcher(Searcher):  # type: ignore[misc] # Ray has no types
    """The sampler of a spec: baselines and expert choices first, no point twice.

    It optimises the spec's objectives, all of them; ``metric`` and ``mode`` of ``TuneConfig`` are
    for Tune's own reports. At most ``concurrent`` of its trials are in flight, since each proposal
    is better for every result before it. When the space is exhausted, Tune is told so.

    Args:
        spec: What is searched, by which sampler, with which seed.
        concurrent: Trials in flight; None for as many as keep the machine busy.
    """

    def __init__(self, spec: Spec, concurrent: int | None = None) -> None:
        super().__init__()
        self._spec = spec
        self._concurrent = concurrent or in_flight(spec)
        self._trials: dict[int, Trial] = {}
        self._numbers: dict[str, int] = {}
        self._reports: dict[str, Mapping[str, Any]] = {}
        self._proposer: Proposer | None = None

    @property
    def history(self) -> tuple[Trial, ...]:
        """Every trial it knows, in the order they were proposed; a running one has no outcome."""
        return tuple(self._trials.values())

    def set_search_properties(
        self,
        metric: str | None,
        mode: str | None,
        config: Mapping[str, Any],
        **spec: Any,
    ) -> bool:
        """Accept whatever Tune was given: the spec says what is searched and for what."""
        del metric, mode, config, spec
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Take ``TuneConfig.max_concurrent_trials`` as the limit."""
        self._concurrent = max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next configuration; None while enough are in flight; FINISHED when none is left."""
        if sum(trial.outcome is None for trial in self._trials.values()) >= self._concurrent:
            return None
        proposal = self._proposals()(self.history)
        if proposal is None:
            return str(Searcher.FINISHED)
        self._begin(trial_id, proposal.configuration, proposal.origin)
        return suggested(self._spec, proposal.configuration)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Remember the report: of a trial that then raises, Tune hands over none at its end."""
        self._reports[trial_id] = result

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take the result into the history, failures and rejections as such."""
        del error  # the report says it, and a missing one does too
        report = result or self._reports.get(trial_id)
        self._reports.pop(trial_id, None)
        if trial_id not in self._numbers and not self._adopt(trial_id, report or {}):
            return
        number = self._numbers[trial_id]
        ended = outcome(report, self._spec.objectives)
        self._trials[number] = replace(self._trials[number], outcome=ended)

    def save(self, checkpoint_path: str) -> None:
        """Write the history; the rest follows from it."""
        state = {"events": self._events(), "numbers": self._numbers}
        Path(checkpoint_path).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Read what ``save`` wrote."""
        state = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))
        self._trials = {trial.number: trial for trial in trials(state["events"])}
        self._numbers = dict(state["numbers"])
        self._proposer = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_proposer": None}

    def _proposals(self) -> Proposer:
        if self._proposer is None:
            spec = self._spec
            first = [Proposal(point, "baseline") for point in baselines(spec)]
            first += [Proposal(point, "expert") for point in experts(spec)]
            self._proposer = Proposer(
                spec.space, spec.objectives, spec.sampler, spec.seed, first, lambda _: 0.0
            )
        return self._proposer

    def _begin(self, trial_id: str, point: Configuration, origin: Origin) -> None:
        number = len(self._trials)
        self._numbers[trial_id] = number
        self._trials[number] = Trial(number, point, origin)

    def _adopt(self, trial_id: str, report: Mapping[str, Any]) -> bool:
        """Take up a trial that a restored experiment had begun after the last ``save``."""
        try:
            point = configuration(self._spec, report.get("config", {}))
        except (Infeasible, UserError):
            return False
        self._begin(trial_id, point, "external")
        return True

    def _events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        for trial in self._trials.values():
            settings = dict(trial.configuration)
            begun = {"event": "trial", "number": trial.number, "origin": trial.origin}
            events.append({**begun, "settings": settings})
            if trial.outcome is not None:
                body = encode_outcome(trial.outcome)
                events.append({"event": "outcome", "number": trial.number, "outcome": body})
        return events
