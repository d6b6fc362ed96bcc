"""Artifacts timed against each other: blocks in turn (A B C A B C ...), one process, one core.

``compare`` starts that process; the file is its program as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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


def ratio(
    blocks: Mapping[str, Sequence[float]], one: str, two: str, draws: int = 2000
) -> tuple[float, float, float]:
    """How many times slower ``one`` is than ``two``: the median of the blocks' ratios.

    With it the 95 % interval of that median, by a bootstrap over the blocks.
    """
    import numpy as np

    ratios = np.array(blocks[one]) / np.array(blocks[two])
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (draws, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def _main(request: dict[str, Any]) -> dict[str, list[float]]:
    from contextlib import ExitStack

    import numpy as np

    from autotune import plugins
    from autotune.conversion import arrays

    x = arrays.read(Path(request["data"]), "test")
    medians: dict[str, list[float]] = {entry["name"]: [] for entry in request["entries"]}
    with ExitStack() as stack:
        turns = []
        for entry in request["entries"]:
            backend = plugins.load("backends", entry["backend"])
            session = stack.enter_context(
                backend.open(Path(entry["artifact"]), entry["settings"], entry["batch"], 1)
            )
            batches = [arrays.rows(x, start, entry["batch"]) for start in range(32)]
            for batch in batches:
                session.run(batch)
            turns.append((entry["name"], session, batches))
        for _ in range(request["blocks"]):
            for name, session, batches in turns:
                medians[name].append(_turn(session, batches, request["block_s"], np))
    return medians


def _turn(session: Any, batches: Sequence[Any], seconds: float, np: Any) -> float:
    session.run(batches[0])  # what the one before left in the caches is not its doing
    times: list[int] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        batch = batches[len(times) % len(batches)]
        start = time.perf_counter_ns()
        session.run(batch)
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times)) / 1e6


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    os.sched_setaffinity(0, {asked["core"]})  # before any runtime starts its threads
    Path(sys.argv[2]).write_text(json.dumps(_main(asked)))
