"""``autotune schema``."""

from __future__ import annotations

import json

import click


@click.command("schema")
def command() -> int:
    """Print the JSON schema of the space file, for editors that complete and check YAML."""
    from autotune.spec import schema

    click.echo(json.dumps(schema(), indent=2))
    return 0
