"""``autotune validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autotune.cli.options import overrides, spec_options


@click.command("validate")
@click.argument("space", type=click.Path(path_type=Path))
@click.option(
    "--all", "everything", is_flag=True, help="Also what is at its default, and what is not in use."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@spec_options
def command(space: Path, everything: bool, as_json: bool, **given: Any) -> int:
    """Check SPACE, the model and the data, and list what will be searched and what cannot run.

    Every knob is told with its values, what it does, and the technique or backend that owns it.
    """
    from autotune import api
    from autotune.cli import show

    return show.checked(api.load(space, overrides(given)), as_json, everything)
