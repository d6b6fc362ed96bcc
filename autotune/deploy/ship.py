"""The picked artifact with its configuration and evidence, in a folder of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from autotune.pick import Pick
from autotune.store.artifacts import Store
from autotune.store.content import META
from autotune.trial import Trial

BEST = "best"
CONFIGURATION = "configuration.json"


def ship(trial: Trial, pick: Pick, store: Store, folder: Path) -> Path | None:
    """Copy the artifact of ``trial`` to ``folder``, with what it is and why it was picked.

    The folder is replaced whole. Returns None where the artifact is no longer in the store.
    """
    measurement = trial.measurement
    source = store.open(str(measurement.facts["artifact"])) if measurement else None
    if source is None or measurement is None:
        return None
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh, ignore=shutil.ignore_patterns(META))
    record = {
        "trial": trial.number,
        "configuration": dict(trial.configuration),
        "measured": {name: asdict(value) for name, value in measurement.values.items()},
        "runtime": measurement.facts["runtime"],
        "picked_by": asdict(pick),
    }
    (fresh / CONFIGURATION).write_text(json.dumps(record, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder
