"""``autotune profile``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from autotune.profile import Profile


@click.command("profile")
@click.argument("what", type=click.Path(path_type=Path), metavar="RUN_OR_MODEL")
@click.option("--trial", type=int, help="Of RUN: this trial.  [default: the pick]")
@click.option("--store", type=click.Path(path_type=Path), help="Artifacts.  [default: RUN/store]")
@click.option("--batch", type=click.IntRange(min=1), help="Of a model: samples a request.")
@click.option("--threads", type=click.IntRange(min=1), help="Of a model: threads.")
@click.option("--dim", "dims", multiple=True, help="Of a model: NAME=SIZE of an open axis.")
@click.option("--nodes", is_flag=True, help="Every node for itself, the longest first.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    what: Path,
    trial: int | None,
    store: Path | None,
    batch: int | None,
    threads: int | None,
    dims: tuple[str, ...],
    nodes: bool,
    as_json: bool,
) -> int:
    """Say where the time of a request goes, by the runtime's own profiler.

    Of a RUN folder: the pick (or a trial) beside its baseline; the report shows them from then on.
    Of a MODEL.onnx: ONNX Runtime as it comes, on random inputs.
    """
    if what.is_file():
        _only(trial=trial, store=store, of="a run folder")
        parts = [_model(what, batch or 1, threads or 1, _sizes(dims))]
    else:
        _only(batch=batch, threads=threads, dim=dims or None, of="an ONNX file")
        parts = _run(what, trial, store)
    if as_json:
        click.echo(json.dumps({"profiles": [_plain(*part) for part in parts]}, indent=2))
        return 0
    for about, profile in parts:
        _show(about, profile, nodes=nodes)
    return 0


def _waiting(whom: str) -> None:
    if whom:
        click.echo(whom, err=True)


def _only(of: str, **given: Any) -> None:
    """Refuse an option that says nothing of what is profiled."""
    wrong = [f"--{name}" for name, value in given.items() if value is not None]
    if wrong:
        raise click.UsageError(f"{', '.join(wrong)}: only for {of}")


def _sizes(dims: Sequence[str]) -> dict[str, int]:
    found = {}
    for text in dims:
        name, _, size = text.rpartition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise click.UsageError(f"--dim {text}: write NAME=SIZE, for example --dim sequence=128")
        found[name] = int(size)
    return found


def _run(folder: Path, number: int | None, store: Path | None) -> list[tuple[Any, Profile]]:
    from autotune.api import Run
    from autotune.report.profile import measured, sentences, title

    run = Run(folder)
    found = run.profile(number, store, _waiting)
    data = run.data
    trials = {trial.number: trial for trial in data.trials}
    parts = []
    for n, profile in found.items():
        trial, p50 = trials[n], measured(trials[n])
        who, knobs = title(data, trial), dict(trial.configuration)
        about = {"trial": n, "title": who, "configuration": knobs, "measured_p50_ms": p50}
        parts.append(({**about, "told": sentences(profile, p50)}, profile))
    return parts


def _model(path: Path, batch: int, threads: int, sizes: dict[str, int]) -> tuple[Any, Profile]:
    from autotune.engine import profiling_onnx
    from autotune.report.profile import sentences

    profile, inputs = profiling_onnx.profile(path, batch, threads, sizes, _waiting)
    knobs = {"backend": profiling_onnx.BACKEND, "batch": batch, "threads": threads}
    told = (f"Random inputs: {'; '.join(inputs)}.", *sentences(profile))
    return {"title": str(path), "configuration": knobs, "told": told}, profile


def _plain(about: dict[str, Any], profile: Profile) -> dict[str, Any]:
    figures = {"total_ms": profile.total_ms, "overhead": profile.overhead}
    return {**about, **figures, **profile.record()}


def _show(about: dict[str, Any], profile: Profile, *, nodes: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from autotune.cli.terminal import out, settings
    from autotune.report.words import number

    number_of = f", trial {about['trial']}" if "trial" in about else ""
    words = escape(settings(about["configuration"]))
    out.print(f"[bold]{escape(about['title'])}[/]{number_of}: {words}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  operator")
    if nodes:
        table.add_column("node", overflow="fold")
    table.add_column("precision")
    for head in ("calls", "ms", "share"):
        table.add_column(head, justify="right")
    rows = sorted(profile.rows, key=lambda row: -row.ms) if nodes else profile.operators()
    for row in rows:
        share = f"{row.ms / profile.total_ms:.1%}" if profile.total_ms else ""
        name = [escape(row.name)] if nodes else []
        figures = [f"{row.calls:g}", number(row.ms), share]
        table.add_row(f"  {escape(row.operator)}", *name, escape(row.precision), *figures)
    out.print(table)
    for sentence in about["told"]:
        out.print(f"  {escape(sentence)}")
    out.print()
