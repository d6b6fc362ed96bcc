"""What every experiment does with its result: print one table, write one record."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from autotune import hardware, plugins

_LIBRARIES = ("torch", "onnxruntime", "openvino", "nncf", "ray", "optuna", "numpy")


def publish(
    script: str, title: str, rows: Sequence[Mapping[str, Any]], *, name: str = "", **more: Any
) -> None:
    """Print ``rows`` as a table and write a record beside ``script``.

    It is ``name``.json; without one that of ``run.py``, alone in its folder, is ``result.json``,
    and that of any other bears its name.
    """
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    Console(width=140).print(table)
    machine = asdict(hardware.machine())
    record = {
        "title": title,
        "when": time.strftime("%Y-%m-%d"),
        "machine": {
            "cpu": machine["cpu"],
            "cores": len(machine["cores"]),
            "flags": machine["flags"],
        },
        "python": platform.python_version(),
        "libraries": dict(plugins.version(library).split("==") for library in _LIBRARIES),
        "rows": list(rows),
        **more,
    }
    name = name or ("result" if Path(script).stem == "run" else Path(script).stem)
    target = Path(script).with_name(f"{name}.json")
    target.write_text(json.dumps(record, indent=2, default=str) + "\n")
    print(f"written: {target.name}")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
