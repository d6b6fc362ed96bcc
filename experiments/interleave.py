"""Artifacts timed against each other by ``measure.interleave``: one process, one core.

``compare`` starts that process; the file is its program as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.engine import child


def compare(
    entries: Sequence[Mapping[str, Any]], data: Path, blocks: int = 15, block_s: float = 0.25
) -> dict[str, list[float]]:
    """The median latency (ms) of every block, by the entry's name.

    Args:
        entries: ``name``, ``artifact`` (a folder), ``backend``, ``settings``, ``batch``.
        data: The data artifact whose test part the requests come from.
        blocks: How often each entry has its turn.
        block_s: How long a turn lasts, in seconds; at least five calls.
    """
    request = {
        "entries": [{**entry, "artifact": str(entry["artifact"])} for entry in entries],
        "data": str(data),
        "blocks": blocks,
        "block_s": block_s,
        "core": max(os.sched_getaffinity(0)),
    }
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps(request))
        subprocess.run([sys.executable, __file__, str(asked), str(told)], check=True)
        found: dict[str, list[float]] = json.loads(told.read_text())
    return found


def ratio(blocks: Mapping[str, Sequence[float]], one: str, two: str) -> tuple[float, float, float]:
    """How many times slower ``one`` is than ``two``: the median of the blocks' ratios.

    With it the 95 % interval of that median.
    """
    import numpy as np

    from autotune.measure.compare import Interleaved

    found = Interleaved(np.array([blocks[one], blocks[two]]), ()).ratio(0, 1)
    return found.value, float(found.low or 0.0), float(found.high or 0.0)


def _main(request: dict[str, Any]) -> dict[str, list[float]]:
    from contextlib import ExitStack
    from functools import partial

    from autotune import plugins
    from autotune.conversion import arrays
    from autotune.measure import interleave

    x = arrays.read(Path(request["data"]), "test")
    entries = request["entries"]
    with ExitStack() as stack:
        calls = []
        for entry in entries:
            backend = plugins.load("backends", entry["backend"])
            whole = Path(entry["artifact"]), entry["settings"], entry["batch"], 1
            session = stack.enter_context(backend.open(*whole))
            batches = [arrays.rows(x, start, entry["batch"]) for start in range(32)]
            calls.append(partial(_request, session, batches))
        found = interleave(calls, rounds=request["blocks"], block_s=request["block_s"])
    names = [entry["name"] for entry in entries]
    return dict(zip(names, found.medians_ms.tolist(), strict=True))


def _request(session: Any, batches: Sequence[Any], number: int) -> object:
    return session.run(batches[number % len(batches)])


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    child.take([asked["core"]], ahead=False)  # before any runtime starts its threads
    Path(sys.argv[2]).write_text(json.dumps(_main(asked)))
