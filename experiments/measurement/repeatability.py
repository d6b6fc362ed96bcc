"""Does a measurement repeat? Twenty configurations, five times, beside a sweep and alone.

In every round all of them are measured in a new order while a preparing worker trains on the other
cores, as in a run, and again in another order while it rests. The isolated value of a configuration
is the median of those taken alone. Every measurement is the engine's own, in a fresh process.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from lanes import CONFIGURATIONS, bench, measure, name, prepare, some, sweep
from record import publish

P50, P99 = "latency_p50_ms", "latency_p99_ms"
WITHIN = {P50: 0.03, P99: 0.15}
DIFFERENT = 0.05
Seen = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=len(CONFIGURATIONS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tail", type=float, default=10.0, help="seconds for a p99 at most")
    parser.add_argument("--store", type=Path, help="keep the artifacts here")
    options = parser.parse_args()
    chosen = some(options.configurations)
    alone: list[list[Seen]] = [[] for _ in chosen]
    beside: list[list[Seen]] = [[] for _ in chosen]
    shuffle = random.Random(0)
    with bench(options.store) as space:
        for settings in chosen:
            prepare(space, settings)
        with sweep(space) as worker:
            for _ in range(options.repeats):
                for busy, into in ((True, beside), (False, alone)):
                    worker.go() if busy else worker.rest()
                    for place in shuffle.sample(range(len(chosen)), len(chosen)):
                        into[place].append(measure(space, chosen[place], options.tail))
    rows = [row(name(s), a, b) for s, a, b in zip(chosen, alone, beside, strict=True)]
    publish(
        __file__,
        "Repeats beside a sweep against the isolated value",
        rows,
        claims=claims(alone, beside),
    )


def isolated(alone: Sequence[Seen], column: str) -> float:
    return float(np.median([seen[column] for seen in alone]))


def deviations(alone: Sequence[Seen], beside: Sequence[Seen], column: str) -> list[float]:
    return [seen[column] / isolated(alone, column) - 1 for seen in beside]


def row(words: str, alone: Sequence[Seen], beside: Sequence[Seen]) -> dict[str, object]:
    found: dict[str, object] = {"configuration": words}
    for column, word in ((P50, "p50"), (P99, "p99")):
        far = deviations(alone, beside, column)
        found |= {
            f"{word} ms": isolated(alone, column),
            f"{word} off by": ", ".join(f"{100 * d:+.1f}" for d in far),
        }
    found["p50 alone off by"] = ", ".join(f"{100 * d:+.1f}" for d in deviations(alone, alone, P50))
    found["flagged"] = sum(seen["noisy"] for seen in beside)
    return found


def claims(alone: Sequence[Sequence[Seen]], beside: Sequence[Sequence[Seen]]) -> dict[str, object]:
    """What is asked of all the repeats, printed too; and of those that are not flagged as noisy."""
    told: dict[str, object] = {}
    calm = [[seen for seen in one if not seen["noisy"]] for one in beside]
    sides = {"beside": beside, "beside and not flagged": calm, "alone": alone}
    for column, limit in WITHIN.items():
        for who, repeats in sides.items():
            far = [d for a, b in zip(alone, repeats, strict=True) for d in deviations(a, b, column)]
            share = float(np.mean(np.abs(far) <= limit)) if far else float("nan")
            told[f"{column} within {limit:g}, {who}"] = share
    wrong, pairs = inversions(alone, beside)
    told["false inversions"] = wrong / max(1, pairs)
    told["pairs that differ"] = pairs
    told["flagged"] = float(np.mean([seen["noisy"] for one in beside for seen in one]))
    for what, value in told.items():
        print(f"{what}: {value:.4g}")
    return told


def inversions(
    alone: Sequence[Sequence[Seen]], beside: Sequence[Sequence[Seen]]
) -> tuple[int, int]:
    """Of the pairs whose isolated p50 differ enough, in every round: how many swapped places."""
    truth = [isolated(seen, P50) for seen in alone]
    wrong = pairs = 0
    for one, two in itertools.permutations(range(len(truth)), 2):
        if truth[two] >= truth[one] * (1 + DIFFERENT):
            seen = zip(beside[one], beside[two], strict=True)
            swapped = [a[P50] > b[P50] for a, b in seen]
            wrong, pairs = wrong + sum(swapped), pairs + len(swapped)
    return wrong, pairs


if __name__ == "__main__":
    main()
