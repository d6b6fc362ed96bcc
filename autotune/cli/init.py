"""``autotune init``."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from autotune.errors import MachineError, RunFolderError, UserError


@click.command("init")
@click.argument("template", required=False)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def command(template: str | None, folder: Path | None) -> int:
    """Copy the search space TEMPLATE to FOLDER (by default its name); without any, list them."""
    known = {path.parent.name: path.parent for path in sorted(_home().glob("*/space.yaml"))}
    if template is None:
        for name, path in known.items():
            click.echo(f"{name}: {_first_line(path / 'space.yaml')}")
        return 0
    if template not in known:
        raise UserError(f"no search space '{template}'", remedy=f"known: {', '.join(known)}")
    target = folder or Path(template)
    try:
        if target.exists():
            raise RunFolderError(
                "this exists already", place=str(target), remedy="name another folder"
            )
        ignored = shutil.ignore_patterns("__pycache__", "runs")
        shutil.copytree(known[template], target, ignore=ignored)
    except OSError as error:
        raise MachineError(
            f"cannot be made: {error.strerror or error}",
            place=str(target),
            remedy="name another folder",
        ) from error
    click.echo(f"{target}/space.yaml: edit it and task.py, then: autotune run {target}/space.yaml")
    return 0


def _home() -> Path:
    """Where the ready search spaces lie: in the package, or beside it in a source tree."""
    package = Path(__file__).parents[1] / "search_spaces"
    return package if package.exists() else Path(__file__).parents[2] / "search_spaces"


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
