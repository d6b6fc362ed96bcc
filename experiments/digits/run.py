"""The digits demo, measured from outside: cold start to report, the finished folder again.

Everything is read from what the command wrote. "Cold" is an empty run folder; the libraries were
imported before on this machine, as a user's would be.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import publish

import autotune

SPACE = Path(__file__).parents[2] / "search_spaces" / "digits" / "space.yaml"
COMMAND = [sys.executable, "-m", "autotune"]


def timed(*arguments: str) -> float:
    start = time.perf_counter()
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"autotune {arguments[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="keep the last run folder here")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            cold = timed("run", str(SPACE), "--out", str(out), "--quiet", "--seed", str(repeat))
            again = timed("run", str(SPACE), "--out", str(out), "--quiet", "--seed", str(repeat))
            rows.append(row(repeat, cold, again, autotune.Run(out)))
            if options.keep and repeat == 0:
                shutil.copytree(out, options.keep, ignore=shutil.ignore_patterns("store"))
    helps = sorted(timed("--help") for _ in range(9))
    publish(
        __file__, "The digits demo", rows, help_seconds={"median": helps[4], "worst": helps[-1]}
    )
    print(f"autotune --help: median {helps[4]:.2f} s, worst of 9 {helps[-1]:.2f} s")


def row(seed: int, cold: float, again: float, run: autotune.Run) -> dict[str, object]:
    """What the run folder says, beside the two times."""
    data, table = run.data, run.trials
    summary = data.summary
    single = table[table["knob.batch"] == 1]
    baseline = single[single["origin"] == "baseline"].iloc[0]
    close = single[single["accuracy"] >= baseline["accuracy"] - 0.01]
    fastest = close.loc[close["latency_p50_ms"].idxmin()]
    return {
        "seed": seed,
        "cold s": cold,
        "again s": again,
        "space": data.space["size"],
        "trials": len(table),
        "completed": int((table["outcome"] == "completed").sum()),
        "stages needed/run": f"{summary['stages_needed']}/{summary['stages_executed']}",
        "trials that train": summary["trainings_needed"],
        "trainings": summary["trainings_executed"],
        "ratio": summary["trainings_needed"] / summary["trainings_executed"],
        "overhead ms/trial": 1000 * summary["overhead_s_per_trial"],
        "baseline ms": float(baseline["latency_p50_ms"]),
        "fastest ms": float(fastest["latency_p50_ms"]),
        "times": float(baseline["latency_p50_ms"] / fastest["latency_p50_ms"]),
        "drop pt": float(100 * (baseline["accuracy"] - fastest["accuracy"])),
    }


if __name__ == "__main__":
    main()
