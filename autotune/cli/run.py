"""``autotune run``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from autotune.cli.options import overrides, spec_options


@click.command("run")
@click.argument("space", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/<name>]")
@click.option("--store", type=click.Path(path_type=Path), help="Artifacts.  [default: OUT/store]")
@click.option("--address", help="An existing Ray cluster ('auto', 'ray://...', 'host:port').")
@click.option("--fork", is_flag=True, help="If OUT holds a run of another spec, start one beside.")
@click.option("--dry-run", is_flag=True, help="Check, print the space and an estimate, stop.")
@click.option("--no-profile", is_flag=True, help="Do not profile the pick in the end.")
@click.option("--quiet", is_flag=True, help="Print the result alone.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@spec_options
def command(
    space: Path,
    out: Path | None,
    store: Path | None,
    address: str | None,
    fork: bool,
    dry_run: bool,
    no_profile: bool,
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Search SPACE to its budget and write the report; go on if the run folder exists.

    Exits with 0, with 2 if something must be mended, with 3 if nothing is picked, with 130
    after Ctrl-C (press it twice to stop at once).
    """
    from autotune import api
    from autotune.cli import show
    from autotune.cli.progress import Progress

    spec = api.load(space, overrides(given))
    if dry_run:
        return show.checked(spec, as_json)
    silent = quiet or as_json
    default = api.default_objective(spec.objectives, spec.scenario.kind)
    with Progress(spec, default, silent) as progress:
        run = api.run(
            spec,
            out=out,
            store=store,
            address=address,
            fork=fork,
            profile=not no_profile,
            opening=lambda o: None if silent else show.opening(o),
            observe=progress,
        )
    if as_json:
        click.echo(json.dumps(show.record(run), indent=2))
    else:
        show.result(run, quiet)
    return show.exit_code(run)
