"""Options that several verbs share: what may replace a part of the space file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from autotune.errors import SpecError

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
        click.UsageError: A ``--set`` without ``=``.
        SpecError: The value of a ``--set`` is nothing that the space file could say.
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
        found[key.strip()] = _value(key.strip(), value)
    return {key: value for key, value in found.items() if value is not None}


def _value(key: str, text: str) -> object:
    """What ``text`` means where it stands in the space file."""
    from autotune.spec import reader

    try:
        value: object = reader.parse(text, f"--set {key}").data
    except SpecError as error:
        raise SpecError(error.cause, place=f"--set {key}", remedy=error.remedy) from error
    return value


def sizes(dims: Sequence[str]) -> dict[str, int]:
    """The sizes of open axes, from ``NAME=SIZE``.

    Raises:
        click.UsageError: One of another form.
    """
    found = {}
    for text in dims:
        name, _, size = text.rpartition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise click.UsageError(f"--dim {text}: write NAME=SIZE, for example --dim sequence=128")
        found[name] = int(size)
    return found
