"""Work beside a measurement: what a sweep prepares meanwhile, and a load that means harm."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from autotune import hardware
from autotune.engine.child import die_with, take


@dataclass(frozen=True)
class Neighbours:
    """Processes that are busy, or rest."""

    pids: tuple[int, ...]

    def go(self) -> None:
        self._tell(signal.SIGCONT)

    def rest(self) -> None:
        self._tell(signal.SIGSTOP)

    def _tell(self, word: signal.Signals) -> None:
        for pid in self.pids:
            os.kill(pid, word)


@contextmanager
def neighbours(
    work: Callable[..., None], cores: Sequence[Sequence[int]], *arguments: Any
) -> Iterator[Neighbours]:
    """A process on each of these groups of cores that works without end; at first they rest."""
    context = get_context("spawn")
    started = []
    try:
        for group in cores:
            ready = context.Event()
            whole = (work, tuple(group), os.getpid(), ready, *arguments)
            process = context.Process(target=_busy, args=whole, daemon=True)
            process.start()
            started.append(process)
            ready.wait()
        found = Neighbours(tuple(process.pid for process in started if process.pid))
        found.rest()
        yield found
    finally:
        for process in started:
            process.kill()
            process.join()


def training(steps: Callable[[], None], data: str, task: str) -> None:
    """What a preparing worker does most: training steps of the space's network, on its cores."""
    import importlib.util

    import torch

    from autotune.conversion import arrays

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    spec = importlib.util.spec_from_file_location("task", task)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(task)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.build_model()
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    inputs = [torch.from_numpy(x[:64]) for x in arrays.read(Path(data), "train").values()]
    labels = torch.from_numpy(arrays.labels(Path(data), "train")[:64])
    while True:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(*inputs), labels).backward()
        optimizer.step()
        steps()


def hostile(steps: Callable[[], None]) -> None:
    """A load that takes a core and its caches: sums over ten megabytes, without end.

    It takes the lane as a measuring process does, or it would have to wait for that one.
    """
    import numpy as np

    take(sorted(os.sched_getaffinity(0)))
    numbers = np.ones(1_250_000)
    while True:
        numbers.sum()
        steps()


def _busy(
    work: Callable[..., None], cores: tuple[int, ...], parent: int, ready: Any, *arguments: Any
) -> None:
    die_with(parent)
    hardware.pin(cores)
    work(ready.set, *arguments)
