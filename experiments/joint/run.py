"""The joint search against tuning one thing, and against the best backend and precision.

``autotune run`` searches the space; its fastest configuration within one point of the baseline's
accuracy (batch 1, p50) stands for the joint search. Its rivals are found by trying everything:

* one change: the best that changes exactly one of backend, precision, structure or student from
  PyTorch FP32 as given;
* backend x precision: the best pair of the two for the network as given, its flags included.

The finalists are then timed in interleaved blocks.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from interleave import compare, ratio
from record import publish
from stages import Bench

from autotune.errors import Infeasible
from autotune.runfolder import run as runfolder

SPACES = Path(__file__).parents[2] / "search_spaces"
POINT = 0.01
FINALISTS = 3
Settings = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=["digits", "text"])
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    options = parser.parse_args()
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            rows = contest(name, options.keep or Path(folder))
        publish(__file__, f"Joint search against its rivals, {name}, batch 1", rows, name=name)


def contest(name: str, folder: Path) -> list[dict[str, object]]:
    """A row for each of baseline, one change, backend x precision, joint."""
    space, out = SPACES / name / "space.yaml", folder / name
    command = [sys.executable, "-m", "autotune", "run", str(space), "--out", str(out), "--quiet"]
    subprocess.run(command, check=True)
    bench = Bench(space, out / "store")
    metric = next(iter(bench.spec.metrics))
    floor = bench.accuracy({}) - POINT
    sides = {
        "joint": joint(out, metric, floor),
        "one change": [s for s in one_change(bench) if able(bench, s, floor)],
        "backend x precision": [s for s in pairs(bench) if able(bench, s, floor)],
    }
    best = {side: fastest(bench, found) for side, found in sides.items()}
    best["baseline"] = {"backend": "torch"}
    blocks = compare([bench.entry(n, s) for n, s in best.items()], bench.data(), blocks=25)
    return [row(bench, name, side, best[side], blocks, len(sides.get(side, [1]))) for side in best]


def joint(out: Path, metric: str, floor: float) -> list[Settings]:
    """The fastest trials of the run within the limit, by their measured p50."""
    run = runfolder.read(out)
    found = [
        (trial.measurement["latency_p50_ms"], dict(trial.configuration))
        for trial in run.trials
        if trial.measurement is not None
        and trial.configuration["batch"] == 1
        and trial.measurement[metric] >= floor
    ]
    return [point for _, point in sorted(found, key=lambda pair: pair[0])[:FINALISTS]]


def one_change(bench: Bench) -> Iterator[Settings]:
    """PyTorch FP32 as given, with exactly one thing changed, in every way the space knows."""
    yield from (
        {"backend": b, **flags} for b in values(bench, "backend") for flags in runtime(bench, b)
    )
    yield from ({"precision": p} for p in values(bench, "precision"))
    for family in ("student", "prune"):
        names = [k.name for k in bench.spec.space.knobs if k.name.startswith(f"{family}.")]
        grids = [values(bench, name) for name in names]
        yield from (dict(zip(names, point, strict=True)) for point in itertools.product(*grids))


def pairs(bench: Bench) -> Iterator[Settings]:
    """Every backend at every precision with every combination of its own flags."""
    for backend, precision in itertools.product(
        values(bench, "backend"), values(bench, "precision")
    ):
        for flags in runtime(bench, backend):
            yield {"backend": backend, "precision": precision, **flags}


def runtime(bench: Bench, backend: str) -> list[Settings]:
    """The default flags, and each flag changed alone."""
    own = [k.name for k in bench.spec.space.knobs if k.name.startswith(f"{backend}.")]
    return [{}, *({name: value} for name in own for value in values(bench, name))]


def values(bench: Bench, name: str) -> tuple[Any, ...]:
    knob = next(k for k in bench.spec.space.knobs if k.name == name)
    return tuple(knob.domain.grid() or (knob.domain.low, knob.domain.high))


def able(bench: Bench, settings: Settings, floor: float) -> bool:
    """Whether the configuration is possible and accurate enough."""
    try:
        reason = bench.infeasible(settings)
        return reason is None and bench.accuracy(settings) >= floor
    except (Infeasible, SystemExit):
        return False


def fastest(bench: Bench, found: list[Settings]) -> Settings:
    """The one with the lowest median of a few interleaved blocks."""
    unique = list({bench.plan(s).latency.key: s for s in found}.values())
    entries = [bench.entry(str(place), s) for place, s in enumerate(unique)]
    blocks = compare(entries, bench.data(), blocks=5, block_s=0.1)
    order = sorted(blocks, key=lambda n: sorted(blocks[n])[len(blocks[n]) // 2])
    return unique[int(order[0])]


def row(
    bench: Bench,
    network: str,
    side: str,
    settings: Settings,
    blocks: Mapping[str, list[float]],
    of: int,
) -> dict[str, object]:
    slower, low, high = ratio(blocks, side, "joint")
    speed, slow, fast = ratio(blocks, "baseline", side)
    searched = {knob.name for knob in bench.spec.space.knobs if len(knob.domain.grid() or ()) != 1}
    told = {k: v for k, v in settings.items() if k in searched - {"batch", "threads"}}
    return {
        "network": network,
        "side": side,
        "p50 ms": sorted(blocks[side])[len(blocks[side]) // 2],
        "joint is faster by": f"{slower:.2f} ({low:.2f}-{high:.2f})",
        "times the baseline": f"{speed:.1f} ({slow:.1f}-{fast:.1f})",
        "accuracy": bench.accuracy(settings),
        "candidates": of,
        "configuration": ", ".join(f"{k} {v}" for k, v in told.items()),
    }


if __name__ == "__main__":
    main()
