"""The live view of a search, on the standard error."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autotune.cli.terminal import duration, err, settings, told
from autotune.errors import AutotuneError
from autotune.pick import pick
from autotune.search.driver import State
from autotune.slo import Quantity
from autotune.spec import Spec

PLAIN_EVERY_S = 15.0


class Progress:
    """Shows trials done, running, stopped and failed, the best so far, and the time left.

    Of every training under way it shows how far it is.

    On a terminal it redraws twice a second; elsewhere it prints a line now and then.
    """

    def __init__(self, spec: Spec, default: Quantity, quiet: bool) -> None:
        self._spec = spec
        self._default = default
        self._quiet = quiet
        self._live = Live(console=err, refresh_per_second=2, transient=True)
        self._said = 0.0
        self._best: tuple[int, str] = (-1, "")

    def __enter__(self) -> Progress:
        if not self._quiet and err.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __call__(self, state: State) -> None:
        if self._quiet:
            return
        if err.is_terminal:
            self._live.update(self._view(state))
        elif time.monotonic() - self._said >= PLAIN_EVERY_S:
            self._said = time.monotonic()
            parts = (self._counts(state), *state.progress, self._best_so_far(state))
            err.print(escape("; ".join(parts)))

    def _view(self, state: State) -> Group:
        total = self._spec.budget.trials
        done = sum(trial.outcome is not None for trial in state.trials)
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=total, completed=done, width=40), self._counts(state))
        names = Counter(state.stages)
        under = ", ".join(f"{n} {name}" if n > 1 else name for name, n in names.items())
        return Group(
            bar,
            Text(f"under way or waiting: {under or 'nothing'}", style="dim"),
            *(Text(f"  {line}", style="dim") for line in state.progress),
            Text(self._best_so_far(state)),
        )

    def _counts(self, state: State) -> str:
        words = Counter(t.outcome.word if t.outcome else "running" for t in state.trials)
        done = sum(words.values()) - words["running"]
        parts = [f"{done}/{self._spec.budget.trials} trials", f"{words['running']} running"]
        parts += [f"{words[w]} {w}" for w in ("stopped", "failed") if words[w]]
        left = _left_s(state, done, self._spec.budget.trials, self._spec.budget.seconds)
        if left is not None:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def _best_so_far(self, state: State) -> str:
        done = sum(trial.outcome is not None for trial in state.trials)
        if done != self._best[0]:
            self._best = (done, _best(state, self._spec, self._default))
        return self._best[1]


def _best(state: State, spec: Spec, default: Quantity) -> str:
    trials = [trial for trial in state.trials if trial.outcome is not None]
    try:
        found = pick(trials, spec.slo, default)
    except AutotuneError:
        return "best so far: nothing fits yet"
    trial = next(t for t in trials if t.number == found.trial)
    faster = f", {found.speedup:.1f}x" if found.speedup else ""
    words = settings(told(trial.configuration, spec.resolved["space"]))
    return f"best so far: trial {found.trial}{faster}: {words}"


def _left_s(state: State, done: int, trials: int, limit: float | None) -> float | None:
    pace = state.elapsed_s / done * (trials - done) if done else None
    time_left = None if limit is None else max(0.0, limit - state.elapsed_s)
    known = [seconds for seconds in (pace, time_left) if seconds is not None]
    return min(known) if known else None
