"""What the verbs print of a space and of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
from rich.markup import escape

from autotune import deploy
from autotune.api import Opening, Run, check
from autotune.cli import listing
from autotune.cli.terminal import complain, counted, duration, err, out, show_pick
from autotune.errors import NothingFits
from autotune.runfolder import RunData
from autotune.spec import Spec
from autotune.trial import Failed


def opening(ahead: Opening) -> None:
    """The size of the space, what was removed and why, and how long it will take."""
    _size(ahead, err)
    if ahead.finished:
        err.print(f"going on in {ahead.folder}: {ahead.finished} trials are there already")


def checked(spec: Spec, as_json: bool, everything: bool = False) -> int:
    """A space file that is right: its knobs, its size, what cannot run and why."""
    ahead = check(spec)
    if as_json:
        click.echo(json.dumps(_plain(ahead), indent=2))
        return 0
    listing.show(spec, out, everything=everything)
    _size(ahead, out)
    return 0


def result(run: Run, quiet: bool) -> None:
    """The pick under the run's SLO, and where everything is."""
    data = run.data
    if not quiet:
        summary = data.summary
        out.print(
            f"{counted(len(data.trials), 'trial')} in {duration(summary.get('wall_s', 0.0))}; "
            f"{summary.get('stages_executed', 0)} stages run; "
            f"with nothing shared it would be {summary.get('stages_needed', 0)}"
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
    picked = data.pick
    return 3 if data.trials and picked and picked["trial"] is None else 0


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
    data = run.data
    trial = next(t for t in data.trials if t.number == found.trial)
    show_pick(found, trial, data.spec.get("space", {}))
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
            f"{most}{escape(_brief(reason))}"
        )


def _brief(reason: str) -> str:
    """A reason as far as a terminal needs it: an exporter's can fill a page."""
    lines = reason.strip().splitlines() or [""]
    text = " ".join(lines[:3])[:_WIDEST]
    return text if len(lines) <= 3 and len(text) < _WIDEST else f"{text} … (more in the report)"


_WIDEST = 400


def _size(ahead: Opening, console: Any) -> None:
    spec = ahead.spec
    many = "more configurations than can be counted"
    size = many if ahead.size is None else counted(ahead.size, "configuration")
    console.print(f"[bold]{escape(spec.name)}[/]: {size}")
    removed = sum(ahead.removed.values())
    if removed and ahead.drawn:
        console.print(f"  of {ahead.drawn:,} drawn at random {removed:,} cannot run:")
    elif removed:
        console.print(f"  {counted(removed, 'combination')} removed:")
    for reason, count in sorted(ahead.removed.items(), key=lambda pair: -pair[1]):
        console.print(f"    {count:>7,}  {escape(reason)}")
    for note in (*spec.notes, *ahead.collapsed):
        console.print(f"  {escape(note)}")
    limit = spec.budget.seconds
    expected = min(ahead.estimate.seconds, limit or ahead.estimate.seconds)
    time = f"at most {duration(limit)}" if limit else "any time"
    console.print(
        f"  {counted(ahead.estimate.trials, 'trial')} in {time}; "
        f"expected: up to {duration(expected)}, {counted(ahead.estimate.trainings, 'training')}"
    )


def _plain(ahead: Opening) -> Mapping[str, Any]:
    return {
        "name": ahead.spec.name,
        "knobs": listing.plain(ahead.spec),
        "size": ahead.size,
        "removed": dict(ahead.removed),
        "drawn": ahead.drawn,
        "notes": [*ahead.spec.notes, *ahead.collapsed],
        "estimate": asdict(ahead.estimate),
    }
