"""Options that several verbs share: what may replace a part of the space file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click
import yaml

_OPTIONS = (
    click.option("--name", help="Name of the run."),
    click.option("--seed", type=int, help="Seed of every random choice."),
    click.option("--preset", help="Budget: quick, default or extensive."),
    click.option("--trials", type=int, help="Trials to run in all."),
    click.option("--time", "time_", help="Time in all: 90s, 4m, 1h30m."),
    click.option("--sampler", help="What proposes configurations."),
    click.option("--set", "sets", multiple=True, help="KEY=VALUE: any other key of the file."),
)


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options whose values ``overrides`` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def overrides(given: Mapping[str, Any]) -> dict[str, object]:
    """Dotted keys of the space file and what the command line gives for them.

    Raises:
        click.UsageError: A ``--set`` without ``=``, or whose value is not YAML.
    """
    found: dict[str, object] = {
        "name": given["name"],
        "seed": given["seed"],
        "preset": given["preset"],
        "budget.trials": given["trials"],
        "budget.time": given["time_"],
        "sampler": given["sampler"],
    }
    for pair in given["sets"]:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(
                f"--set {pair}: write KEY=VALUE, for example --set space.batch=4"
            )
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise click.UsageError(f"--set {pair}: the value is not YAML") from error
    return {key: value for key, value in found.items() if value is not None}
