"""Each technique against doing without it, at equal cost, over several seeds.

For both networks: quantization-aware training against post-training quantization (same kernels, so
the same speed), and against as many more epochs in floating point before it; a distilled student
against the same student trained on the labels alone; half of the channels (or of the feed-forward)
pruned and fine-tuned against the dense network. Accuracy is on the test part, the speed is the
ratio of interleaved blocks at batch 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
from interleave import compare, ratio
from record import publish
from stages import Bench

SPACES = Path(__file__).parents[2] / "search_spaces"
Settings = Mapping[str, Any]
STUDENT: Mapping[str, Settings] = {
    "digits": {"student.width": 8, "student.depth": 1, "distill.epochs": 10, "distill.lr": 6e-3},
    "text": {
        "student.width": 64,
        "student.depth": 1,
        "distill.start": "fresh",
        "distill.epochs": 6,
        "distill.lr": 3e-3,
    },
}
PRUNED: Settings = {"prune.structure": "channel", "prune.ratio": 0.5, "prune.round_to": 8}
FINETUNED: Mapping[str, Settings] = {
    "digits": {"finetune.epochs": 6, "finetune.lr": 3e-3},
    "text": {
        "prune.criterion": "taylor",
        "prune.allocation": "global",
        "finetune.epochs": 10,
        "finetune.lr": 3e-3,
    },
}
QAT: Settings = {"qat.epochs": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--networks", nargs="*", default=list(STUDENT))
    parser.add_argument("--store", type=Path, help="keep the artifacts here")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            store = (options.store or Path(folder)) / name
            more = {
                "prune": {
                    "structure": ["none", "channel"],
                    "ratio": 0.5,
                    "round_to": 8,
                    "criterion": ["magnitude", "taylor"],
                    "allocation": ["uniform", "global"],
                },
                "qat": {"epochs": [0, 1]},
            }
            bench = Bench(SPACES / name / "space.yaml", store, more)
            rows += [row(bench, name, *claim, options.seeds) for claim in claims(name)]
    publish(__file__, "Each technique against doing without it", rows)


def claims(network: str) -> list[tuple[str, str, Settings, str, Settings]]:
    """What is compared: the claim, then the two sides, each by its name and its knobs."""
    student, pruned = STUDENT[network], {**PRUNED, **FINETUNED[network]}
    soft = {"backend": "onnxruntime"}
    found = [
        ("distilled >= labels", "distilled", {**soft, **student}, "labels alone",
         {**soft, **student, "distill.alpha": 1.0}),
        ("pruned ~ dense", "pruned 50 %", {**soft, **pruned}, "dense", soft),
    ]  # fmt: skip
    for backend in ("onnxruntime", "openvino"):
        int8 = {"backend": backend, "precision": "int8", **student}
        found.append((f"QAT >= PTQ, {backend}", "QAT", {**int8, **QAT}, "PTQ", int8))
        longer = {**int8, "distill.epochs": int8["distill.epochs"] + QAT["qat.epochs"]}
        found.append((f"QAT or longer, {backend}", "QAT", {**int8, **QAT}, "longer, PTQ", longer))
    return found


def row(
    bench: Bench, network: str, claim: str, a: str, one: Settings, b: str, two: Settings, seeds: int
) -> dict[str, object]:
    """Both sides' accuracy over the seeds, their paired difference, and the ratio of their p50."""
    first = np.array([bench.accuracy(one, seed) for seed in range(seeds)])
    second = np.array([bench.accuracy(two, seed) for seed in range(seeds)])
    blocks = compare([bench.entry("one", one), bench.entry("two", two)], bench.data())
    speed, low, high = ratio(blocks, "one", "two")
    difference = 100 * (first - second)
    return {
        "network": network,
        "claim": claim,
        "sides": f"{a} / {b}",
        "accuracy": f"{first.mean():.4f} / {second.mean():.4f}",
        "spread": f"{first.std(ddof=1):.4f} / {second.std(ddof=1):.4f}" if seeds > 1 else "",
        "difference pt": float(difference.mean()),
        "worst, best seed pt": f"{difference.min():+.1f}, {difference.max():+.1f}",
        "p50 ratio": f"{speed:.3f} ({low:.3f}-{high:.3f})",
        "by seed": [first.tolist(), second.tolist()],
    }


if __name__ == "__main__":
    main()
