"""The picked artifact with its configuration and evidence, in a folder of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from autotune.deploy.readme import readme
from autotune.pick import Pick
from autotune.store.artifacts import Store
from autotune.store.content import META
from autotune.trial import Trial

BEST = "best"
CONFIGURATION = "configuration.json"
README = "README.txt"


def ship(trial: Trial | None, pick: Pick | None, store: Store, folder: Path) -> Path | None:
    """Copy the artifact of ``trial`` to ``folder``, with what it is and why it was picked.

    The folder is replaced whole, and what another trial left there is removed. Returns None where
    nothing is picked, or where the artifact is neither in the store nor shipped already.
    """
    measurement = trial.measurement if trial else None
    if trial is None or pick is None or measurement is None:
        _clear(folder)
        return None
    source = store.open(str(measurement.facts["artifact"]))
    if source is None:
        if _holds(folder, trial):
            return folder
        _clear(folder)
        return None
    fresh = folder.with_name(f".{folder.name}.new")
    _clear(fresh)
    shutil.copytree(source, fresh, ignore=shutil.ignore_patterns(META))
    record = {
        "trial": trial.number,
        "configuration": dict(trial.configuration),
        "measured": {name: asdict(value) for name, value in measurement.values.items()},
        "runtime": measurement.facts["runtime"],
        "picked_by": asdict(pick),
    }
    (fresh / CONFIGURATION).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (fresh / README).write_text(readme(fresh, trial.configuration), encoding="utf-8")
    _clear(folder)
    fresh.rename(folder)
    return folder


def _holds(folder: Path, trial: Trial) -> bool:
    """Whether ``trial`` was shipped to ``folder`` before."""
    if folder.is_symlink():
        return False
    try:
        record = json.loads((folder / CONFIGURATION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    known = {"trial": trial.number, "configuration": dict(trial.configuration)}
    return isinstance(record, dict) and known.items() <= record.items()


def _clear(path: Path) -> None:
    """Remove what is at ``path``; a link is removed, never what it points to."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
