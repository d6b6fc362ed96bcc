"""A hostile load on every core for a third of the time: is it seen, and is anything silently wrong?

A few configurations are measured over and over by the engine's own stage, in fresh processes; one
process on each core, the lane's included, sums numbers without end while it is let, with as high a
priority as what is measured. Two ways: all of the middle third, and for one second in every three,
so that it begins and ends within measurements. The isolated value of a configuration is the median
of as many measurements before.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from lanes import Settings, bench, measure, name, prepare, some
from neighbours import Neighbours, hostile, neighbours
from record import publish
from stages import Bench

WITHIN = {"latency_p50_ms": 0.03, "latency_p99_ms": 0.15}
BURST_S, PERIOD_S = 1.0, 3.0


@dataclass(frozen=True)
class Seen:
    """One measurement and when it was taken, as a share of the whole time."""

    settings: Settings
    told: Mapping[str, Any]
    began: float
    ended: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=180.0, help="of each way")
    parser.add_argument("--isolated", type=int, default=5, help="measurements alone, of each")
    parser.add_argument("--tail", type=float, default=10.0, help="seconds for a p99 at most")
    parser.add_argument("--store", type=Path, help="keep the artifacts here")
    options = parser.parse_args()
    chosen = some(options.configurations)
    with bench(options.store) as space:
        for settings in chosen:
            prepare(space, settings)
        alone = {name(s): isolated(space, s, options) for s in chosen}
        everywhere = [(core,) for core in sorted(os.sched_getaffinity(0))]
        with neighbours(hostile, everywhere) as load:
            rows = [
                row(words, [*taken(space, chosen, options, way(load, options.seconds))], alone)
                for words, way in (("the middle third", third), ("1 s in every 3", bursts))
            ]
    publish(__file__, "A hostile load on all cores for a third of the time", rows, isolated=alone)


def isolated(space: Bench, settings: Settings, options: argparse.Namespace) -> dict[str, float]:
    found = [measure(space, settings, options.tail) for _ in range(options.isolated)]
    return {column: float(np.median([told[column] for told in found])) for column in WITHIN}


def taken(
    space: Bench,
    chosen: Sequence[Settings],
    options: argparse.Namespace,
    load: AbstractContextManager[None],
) -> Iterator[Seen]:
    """Measurements, one configuration after the other, for so long; each at its time."""
    with load:
        begin = time.perf_counter()
        number = 0
        while (began := (time.perf_counter() - begin) / options.seconds) < 1:
            settings = chosen[number % len(chosen)]
            told = measure(space, settings, options.tail)
            yield Seen(settings, told, began, (time.perf_counter() - begin) / options.seconds)
            number += 1


@contextmanager
def third(load: Neighbours, seconds: float) -> Iterator[None]:
    with _switched(load, lambda t: seconds / 3 <= t < 2 * seconds / 3):
        yield


@contextmanager
def bursts(load: Neighbours, _: float) -> Iterator[None]:
    with _switched(load, lambda t: t % PERIOD_S < BURST_S):
        yield


@contextmanager
def _switched(load: Neighbours, on: Callable[[float], bool]) -> Iterator[None]:
    """The load goes and rests as ``on`` says of the seconds since now."""
    over, begin = threading.Event(), time.perf_counter()

    def switch() -> None:
        goes = False
        while not over.wait(0.01):
            if on(time.perf_counter() - begin) != goes:
                goes = not goes
                load.go() if goes else load.rest()
        load.rest()

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def row(
    way: str, found: Sequence[Seen], alone: Mapping[str, Mapping[str, float]]
) -> dict[str, object]:
    """Of the measurements: within the limits, flagged, silently wrong; of the blocks: seen."""
    good = [_within(seen, alone) for seen in found]
    flagged = [bool(seen.told["noisy"]) for seen in found]
    silent = [s for s, g, f in zip(found, good, flagged, strict=True) if not g and not f]
    row: dict[str, object] = {
        "load": way,
        "measurements": len(found),
        "within limits": sum(good),
        "flagged": sum(flagged),
        "silently wrong": len(silent),
        "which": ", ".join(_words(seen, alone) for seen in silent),
    }
    if way == "the middle third":
        hostile = [s.told for s in found if s.began > 1 / 3 and s.ended < 2 / 3]
        calm = [s.told for s in found if s.ended < 1 / 3 or s.began > 2 / 3]
    else:
        hostile = calm = []
    return row | {"disturbed blocks seen": _share(hostile), "calm blocks taken for": _share(calm)}


def _within(seen: Seen, alone: Mapping[str, Mapping[str, float]]) -> bool:
    truth = alone[name(seen.settings)]
    return all(abs(seen.told[c] / truth[c] - 1) <= within for c, within in WITHIN.items())


def _words(seen: Seen, alone: Mapping[str, Mapping[str, float]]) -> str:
    truth = alone[name(seen.settings)]
    far = [f"{100 * (seen.told[column] / truth[column] - 1):+.0f} %" for column in WITHIN]
    return f"{name(seen.settings)} ({', '.join(far)})"


def _share(told: Sequence[Mapping[str, Any]]) -> float:
    """Disturbed blocks among all; nan where there is none."""
    blocks = sum(one["blocks"] for one in told)
    return sum(one["disturbed_blocks"] for one in told) / blocks if blocks else float("nan")


if __name__ == "__main__":
    main()
