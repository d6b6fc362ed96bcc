"""One configuration's p50 alone, and while the preparing core trains: interleaved, ratio per pair.

The neighbour is what a sweep really runs there: training the digits network, in a process pinned to
the preparing cores. Each measurement is the engine's own stage, child process and all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import publish

from autotune import hardware
from autotune.contracts import StageContext, TechniqueContext
from autotune.engine import execute, intake, lane
from autotune.engine.plan import Effort, Plan, Subject, plan
from autotune.search import session
from autotune.search.starts import baselines, experts
from autotune.spec import Spec, load
from autotune.store.artifacts import Store

SPACE = Path(__file__).parents[2] / "search_spaces" / "digits" / "space.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    options = parser.parse_args()
    spec = load(SPACE)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        process = intake.start(spec.model, spec.data, session.sources(spec), store.root)
        subject, _ = intake.finish(process, spec.seed)
        rows = [
            pairs(store, chosen, options.pairs, spec, subject) for chosen in plans(spec, subject)
        ]
    publish(__file__, "p50 with a training neighbour over p50 alone, one lane core", rows)


def plans(spec: Spec, subject: Subject) -> list[tuple[str, Plan]]:
    targets = {target.name: target for target in spec.targets}
    chosen = [baselines(spec)[0], *experts(spec)]
    named = {f"{c['backend']} {c['precision']}": c for c in chosen}
    return [(name, plan(c, subject, targets, Effort())) for name, c in named.items()]


def pairs(
    store: Store, chosen: tuple[str, Plan], count: int, spec: Spec, subject: Subject
) -> dict[str, object]:
    name, stages = chosen
    root = str(store.root)
    for stage in stages.latency.chain()[:-1]:
        result = execute.run(stage, root, None, False)
        if not result.ok:
            sys.exit(f"{stage.name}: {result.error}")
    alone, beside = [], []
    for turn in range(count):
        for busy in (False, True) if turn % 2 == 0 else (True, False):
            (beside if busy else alone).append(measure(store, stages, spec, subject, busy))
    p50 = np.array([[m["latency_p50_ms"]["value"] for m in side] for side in (alone, beside)])
    p99 = np.array([[m["latency_p99_ms"]["value"] for m in side] for side in (alone, beside)])
    ratio = p50[1] / p50[0]
    low, high = np.quantile(ratio, [0.1, 0.9])
    return {
        "configuration": name,
        "p50 alone ms": float(np.median(p50[0])),
        "p50 beside ms": float(np.median(p50[1])),
        "ratio": float(np.median(ratio)),
        "ratio 10-90 %": f"{low:.3f} to {high:.3f}",
        "p99 alone ms": float(np.median(p99[0])),
        "p99 beside ms": float(np.median(p99[1])),
        "pairs": count,
    }


def measure(
    store: Store, stages: Plan, spec: Spec, subject: Subject, busy: bool
) -> dict[str, dict]:
    cores = spec.targets[0].preparing
    stop = multiprocessing.get_context("spawn").Event()
    ready = multiprocessing.get_context("spawn").Event()
    data = str(store.open(subject.data.key))
    neighbour = multiprocessing.get_context("spawn").Process(
        target=train, args=(cores, data, ready, stop), daemon=True
    )
    if busy:
        neighbour.start()
        ready.wait()
    with tempfile.TemporaryDirectory() as folder:
        inputs = tuple(store.open(s.key) for s in stages.latency.inputs)
        context = StageContext(stages.latency, inputs, Path(folder), Path(folder))
        facts = lane.latency(context)
    if busy:
        stop.set()
        neighbour.join()
    return dict(facts["columns"])


def train(cores: tuple[int, ...], data: str, ready: object, stop: object) -> None:
    """Train the digits network over and over until told to stop."""
    hardware.pin(cores)
    import torch

    from autotune.conversion import arrays
    from autotune.task import Blueprint
    from autotune.training import loop, losses

    sys.path.insert(0, str(SPACE.parent))
    from task import build_model

    torch.set_num_threads(1)
    network = build_model(width=16, depth=2)
    x, y = arrays.read(Path(data), "train"), arrays.labels(Path(data), "train")
    context = TechniqueContext(
        build_model, Blueprint(), x, y, None, None, 0, Path(tempfile.mkdtemp()) / "c.pt"
    )
    batch = next(iter(loop._batches(context, 64, 0)))
    loss = losses.distillation(4.0, 0.3)
    while not stop.is_set():  # type: ignore[attr-defined]
        loss(network(*batch[0]), batch[1], None).backward()
        ready.set()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
