"""``autotune gc``."""

from __future__ import annotations

import math
from pathlib import Path

import click


def _finite(context: click.Context, parameter: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a number of megabytes")
    return value


@click.command("gc")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--max-mb",
    type=click.FloatRange(min=0),
    default=0.0,
    callback=_finite,
    help="Megabytes that may stay.",
)
@click.option("--store", type=click.Path(path_type=Path), help="Artifacts.  [default: RUN/store]")
def command(run: Path, max_mb: float, store: Path | None) -> int:
    """Remove artifacts of RUN, least recently used first, while it does not run.

    Those of the front and the pick stay, and so do the model and the data as given. Trials and
    reports are not touched: what is removed would be computed again if needed.
    """
    from autotune.api import Run

    freed = Run(run).shrink(round(max_mb * 1e6), store)
    click.echo(f"{freed / 1e6:.1f} MB freed")
    return 0
