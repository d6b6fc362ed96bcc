"""``autotune profile``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autotune.cli.options import sizes

if TYPE_CHECKING:
    from autotune.deploy.bench import Asked
    from autotune.profile import Profile


@click.command("profile")
@click.argument("what", metavar="RUN_OR_MODEL")
@click.option("--trial", type=int, help="Of a run folder: this trial.  [default: the pick]")
@click.option("--store", type=click.Path(path_type=Path), help="Artifacts.  [default: RUN/store]")
@click.option("--backend", help="What runs an ONNX file.  [default: onnxruntime]")
@click.option("--batch", type=click.IntRange(min=1), help="Samples in a request of a model.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads for a model.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    help="Samples for a model: an .npy or .npz file, or a folder of .npy files.",
)
@click.option("--dim", "dims", multiple=True, help="NAME=SIZE of an axis that a model leaves open.")
@click.option("--nodes", is_flag=True, help="Every node for itself, the longest first.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    what: str,
    trial: int | None,
    store: Path | None,
    backend: str | None,
    batch: int | None,
    threads: int | None,
    data: Path | None,
    dims: tuple[str, ...],
    nodes: bool,
    as_json: bool,
) -> int:
    """Say where the time of a request goes, by the runtime's own profiler.

    Of a run folder: its pick (or a trial, RUN:12) beside its baseline; the report shows them from
    then on. Of an ONNX file or a folder like RUN/best: that model, on --data or random values.
    """
    from autotune.runfolder import SPEC

    folder, number = _trial_of(what, trial)
    if (folder / SPEC).is_file():
        model = {"backend": backend, "batch": batch, "threads": threads, "data": data}
        _only_models({**model, "dim": dims or None})
        parts = _run(folder, number, store)
    else:
        from autotune.deploy.bench import Asked

        parts = [
            _model(
                what,
                Asked(
                    backend=backend,
                    batch=batch,
                    threads=threads,
                    data=data,
                    sizes=sizes(dims),
                    trial=trial,
                    store=store,
                ),
            )
        ]
    if as_json:
        click.echo(json.dumps({"profiles": [_plain(*part) for part in parts]}, indent=2))
        return 0
    for about, profile in parts:
        _show(about, profile, nodes=nodes)
    return 0


def _trial_of(what: str, number: int | None) -> tuple[Path, int | None]:
    """The folder and the trial of ``RUN:12``."""
    folder, _, text = what.rpartition(":")
    if number is None and text.isdecimal() and not Path(what).exists():
        return Path(folder), int(text)
    return Path(what), number


def _waiting(whom: str) -> None:
    if whom:
        click.echo(whom, err=True)


def _only_models(given: dict[str, Any]) -> None:
    """Refuse options that say nothing of a trial, which is profiled as it was measured."""
    wrong = [f"--{name}" for name, value in given.items() if value is not None]
    if wrong:
        raise click.UsageError(f"{', '.join(wrong)}: only for a model that is no trial of a run")


def _run(folder: Path, number: int | None, store: Path | None) -> list[tuple[Any, Profile]]:
    from autotune.api import Run
    from autotune.report.profile import measured, title, told

    run = Run(folder)
    found = run.profile(number, store, _waiting)
    data = run.data
    trials = {trial.number: trial for trial in data.trials}
    parts = []
    for n, profile in found.items():
        trial, p50 = trials[n], measured(trials[n])
        who, knobs = title(data, trial), dict(trial.configuration)
        about = {"trial": n, "title": who, "configuration": knobs, "measured_p50_ms": p50}
        parts.append(({**about, "told": told(data, trial, profile)}, profile))
    return parts


def _model(what: str, asked: Asked) -> tuple[Any, Profile]:
    from autotune.deploy.profile import profile
    from autotune.report.profile import sentences

    seen = profile(what, asked, _waiting)
    told = (f"Samples: {seen.data}.", *sentences(seen.profile))
    about = {"title": seen.model, "configuration": dict(seen.configuration), "told": told}
    return about, seen.profile


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
