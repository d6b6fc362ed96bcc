"""Does ``measure.compare`` see a difference where there is none? Pairs of identical artifacts.

Each pair is one artifact opened twice in a fresh process on the lane, compared while a preparing
worker trains on the other cores, as in a run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from lanes import bench, fresh, inputs, prepare, some, sweep
from record import publish

from autotune import plugins
from autotune.measure import compare

OFF = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--configurations", type=int, default=10)
    parser.add_argument("--store", type=Path, help="keep the artifacts here")
    options = parser.parse_args()
    with bench(options.store) as space:
        entries = [prepare(space, settings) for settings in some(options.configurations)]
        target, data = space.spec.targets[0], str(space.data())
        found: dict[str, list[tuple[float, bool]]] = {entry["name"]: [] for entry in entries}
        with sweep(space) as worker:
            worker.go()
            for pair in range(options.pairs):
                entry = entries[pair % len(entries)]
                found[entry["name"]].append(fresh(target, against_itself, entry, data, pair))
    ratios = [ratio for pairs in found.values() for ratio, _ in pairs]
    off = float(np.mean([abs(ratio - 1) > OFF for ratio in ratios]))
    print(f"off by more than {OFF:g}: {off:.3g} of {len(ratios)} pairs (asked: 0.05 at most)")
    rows = [row(name, pairs) for name, pairs in found.items() if pairs]
    publish(
        __file__, "Identical artifacts compared beside a sweep", rows, off=off, pairs=len(ratios)
    )


def against_itself(entry: Mapping[str, Any], data: str, seed: int) -> tuple[float, bool]:
    """The ratio of an artifact to itself, and whether its interval holds 1."""
    backend = plugins.load("backends", entry["backend"])
    whole = Path(entry["artifact"]), entry["settings"], entry["batch"], 1
    requests = inputs(entry, data)
    with backend.open(*whole) as one, backend.open(*whole) as two:
        found = compare(
            lambda i: one.run(requests[i % len(requests)]),
            lambda i: two.run(requests[i % len(requests)]),
            seed=seed,
        ).ratio
    return found.value, found.low <= 1 <= found.high


def row(name: str, pairs: list[tuple[float, bool]]) -> dict[str, object]:
    ratios = np.array([ratio for ratio, _ in pairs])
    return {
        "configuration": name,
        "pairs": len(pairs),
        "worst off by": float(np.abs(ratios - 1).max()),
        "off by > 2 %": int((np.abs(ratios - 1) > OFF).sum()),
        "interval holds 1": sum(holds for _, holds in pairs),
        "ratios": ", ".join(f"{ratio:.4f}" for ratio in ratios),
    }


if __name__ == "__main__":
    main()
