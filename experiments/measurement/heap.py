"""What the C library's heap does to PyTorch eager: fresh processes in turn, heap held and not.

Each has the network of the digits space, batch 1, one thread, on the lane; the p50 of three blocks,
and the pages that the kernel had to bring meanwhile.
"""

from __future__ import annotations

import argparse
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from lanes import SPACE
from record import publish

from autotune import hardware, spec
from autotune.measure import LoopSettings, hold_heap, time_calls

BLOCKS, BLOCK_S = 3, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8, help="of each kind")
    options = parser.parse_args()
    target = spec.load(SPACE).targets[0]
    found: dict[bool, list[tuple[list[float], int]]] = {True: [], False: []}
    for _ in range(options.processes):
        for held, told in found.items():
            with (
                hardware.lane(target) as cores,
                ProcessPoolExecutor(1, get_context("spawn"), hardware.pin, (cores,)) as pool,
            ):
                told.append(pool.submit(measured, held).result())
    rows = [row("held" if held else "as it comes", told) for held, told in found.items()]
    publish(__file__, "PyTorch eager, digits network, batch 1: p50 from process to process", rows)


def measured(held: bool) -> tuple[list[float], int]:
    """The p50 of each block in ms, and the page faults of all of them."""
    if held:
        hold_heap()
    import torch

    sys.path.insert(0, str(SPACE.parent))
    import task

    torch.set_num_threads(1)
    network = task.build_model().eval()
    images = torch.randn(32, 1, 1, 32, 32)
    settings = LoopSettings(min_s=BLOCK_S, max_s=BLOCK_S, precision=0.0)
    with torch.inference_mode():

        def call(i: int) -> object:
            return network(images[i % 32]).numpy()

        time_calls(call, settings=settings)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [time_calls(call, settings=settings).samples_ns for _ in range(BLOCKS)]
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return [float(np.median(block)) / 1e6 for block in blocks], faults


def row(heap: str, told: list[tuple[list[float], int]]) -> dict[str, object]:
    p50 = np.array([medians for medians, _ in told])
    return {
        "heap": heap,
        "processes": len(told),
        "p50 ms": float(np.median(p50)),
        "lowest": float(p50.min()),
        "highest": float(p50.max()),
        "page faults": ", ".join(str(faults) for _, faults in told),
    }


if __name__ == "__main__":
    main()
