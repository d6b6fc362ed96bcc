"""``autotune report``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File.  [default: RUN/report.html]")
def command(run: Path, out: Path | None) -> int:
    """Write the HTML report of RUN, finished or not."""
    from autotune.api import Run

    click.echo(Run(run).report(out))
    return 0
