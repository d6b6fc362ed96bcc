"""What the verbs print of a space and of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from autotune import deploy
from autotune.api import Opening, Run, check
from autotune.cli.terminal import complain, duration, err, out, show_pick
from autotune.errors import NothingFits
from autotune.runfolder import RunData
from autotune.search.starts import declared
from autotune.space import Choice, Knob
from autotune.spec import Spec, in_words
from autotune.trial import Failed

_SHARED = {
    "batch": "samples a request",
    "threads": "threads of the runtime",
    "precision": "of weights and activations",
    "backend": "the runtime",
    "target": "the hardware",
}


def opening(ahead: Opening) -> None:
    """The size of the space, what was removed and why, and how long it will take."""
    _size(ahead, err)
    if ahead.finished:
        err.print(f"going on in {ahead.folder}: {ahead.finished} trials are there already")


def checked(spec: Spec, as_json: bool) -> int:
    """A space file that is right: its knobs, its size, what cannot run and why."""
    ahead = check(spec)
    if as_json:
        click.echo(json.dumps(_plain(ahead), indent=2))
        return 0
    searched = spec.space.searched()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    for column in ("searched", "values", "exists where", "what it does"):
        table.add_column(column)
    for knob in searched:
        where = in_words(knob.when) if knob.when.knobs() else ""
        told = next((p.help for p in declared(spec, knob)), _SHARED.get(knob.name, ""))
        table.add_row(*(escape(word) for word in (knob.name, _values(knob), where, told)))
    out.print(table)
    pinned = [f"{k.name}={_values(k)}" for k in spec.space.knobs if k not in searched]
    out.print(f"[bold]pinned[/] {escape(', '.join(pinned)) or 'nothing'}\n")
    _size(ahead, out)
    return 0


def result(run: Run, quiet: bool) -> None:
    """The pick under the run's SLO, and where everything is."""
    data = run.data
    if not quiet:
        summary = data.summary
        out.print(
            f"{len(data.trials)} trials in {duration(summary.get('wall_s', 0.0))}; "
            f"{summary.get('stages_executed', 0)} stages run where "
            f"{summary.get('stages_needed', 0)} were needed"
        )
    _failures(data)
    if data.slo or data.pick:
        _show_pick(run)
    if not quiet:
        out.print(f"report: {run.folder / 'report.html'}")
    if run.why == "interrupted":
        err.print(f"interrupted; go on with the same command (everything is in {run.folder})")


def exit_code(run: Run) -> int:
    """130 after an interruption, 3 where trials were run and none is picked, else 0."""
    data = run.data
    if run.why == "interrupted":
        return 130
    return 3 if data.trials and data.pick and data.pick["trial"] is None else 0


def record(run: Run) -> dict[str, Any]:
    """A run's result as plain data."""
    front = json.loads(run.front.to_json(orient="records"))
    data = run.data
    return {
        "folder": str(run.folder),
        "why": run.why,
        "pick": data.pick,
        "summary": dict(data.summary),
        "front": front,
    }


def _show_pick(run: Run) -> None:
    try:
        found = run.pick()
    except NothingFits as miss:
        complain(miss)
        return
    show_pick(found, next(t for t in run.data.trials if t.number == found.trial))
    best = run.folder / deploy.BEST
    if not best.exists():
        err.print(
            f"[yellow]{escape(str(best))} is not there[/]: "
            "the artifact of the pick is no longer in the store"
        )


def _failures(data: RunData) -> None:
    """How many trials failed, and of what mostly."""
    reasons = Counter(t.outcome.reason for t in data.trials if isinstance(t.outcome, Failed))
    for reason, count in reasons.most_common(1):
        most = f"; {count} of them: " if count < reasons.total() else ": "
        err.print(
            f"[yellow]{reasons.total()} of {len(data.trials)} trials failed[/]"
            f"{most}{escape(reason)}"
        )


def _size(ahead: Opening, console: Any) -> None:
    spec = ahead.spec
    size = "more than can be counted" if ahead.size is None else f"{ahead.size:,}"
    console.print(f"[bold]{escape(spec.name)}[/]: {size} configurations")
    removed = sum(ahead.removed.values())
    if removed:
        console.print(f"  {removed:,} combinations removed:")
    for reason, count in sorted(ahead.removed.items(), key=lambda pair: -pair[1]):
        console.print(f"    {count:>7,}  {escape(reason)}")
    for note in (*spec.notes, *ahead.collapsed):
        console.print(f"  {escape(note)}")
    limit = spec.budget.seconds
    expected = min(ahead.estimate.seconds, limit or ahead.estimate.seconds)
    time = f"at most {duration(limit)}" if limit else "any time"
    console.print(
        f"  {ahead.estimate.trials} trials in {time}; "
        f"expected: up to {duration(expected)}, {ahead.estimate.trainings} trainings"
    )


def _values(knob: Knob) -> str:
    if isinstance(knob.domain, Choice):
        return ", ".join(
            str(v).lower() if isinstance(v, bool) else str(v) for v in knob.domain.values
        )
    step = f" step {knob.domain.step}" if knob.domain.step else " log" if knob.domain.log else ""
    return f"{knob.domain.low} to {knob.domain.high}{step}"


def _plain(ahead: Opening) -> Mapping[str, Any]:
    return {
        "name": ahead.spec.name,
        "size": ahead.size,
        "removed": dict(ahead.removed),
        "notes": [*ahead.spec.notes, *ahead.collapsed],
        "estimate": asdict(ahead.estimate),
    }
