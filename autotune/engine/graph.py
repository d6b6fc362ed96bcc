"""The memoised graph of Ray tasks: each stage at most once, whoever asks for it and when."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.artifact import Stage
from autotune.engine import execute, progress
from autotune.engine.cluster import Cluster
from autotune.engine.execute import Result
from autotune.store.artifacts import Store
from autotune.target import Target

if TYPE_CHECKING:
    from ray import ObjectRef


@dataclass(eq=False)
class Handle:
    """A stage asked for: under way while ``result`` is None."""

    stage: Stage
    ref: ObjectRef | None = None
    result: Result | None = None


TRIES = 2
"""So often a stage whose worker died is begun in a session; one that took too long only once."""


class Graph:
    """Stages under way and done, by key.

    Args:
        store: Where artifacts are.
        cluster: Where stages run.
        targets: By name, for the lanes.
    """

    def __init__(self, store: Store, cluster: Cluster, targets: Mapping[str, Target]) -> None:
        import ray

        self.store = store
        self.executed: Counter[str] = Counter()
        """How many stages ran, by name."""
        self._ray = ray
        self._opened = time.time()
        self._cluster = cluster
        self._targets = targets
        self._memo: dict[str, Handle] = {}
        self._deaths: dict[str, str] = {}
        self._tries: Counter[str] = Counter()
        self._task = ray.remote(max_retries=0)(execute.run)

    def submit(self, stage: Stage) -> Handle:
        """``stage`` with all it depends on: found, joined in flight, or started."""
        known = self._memo.get(stage.key)
        if known is None:
            found = execute.hit(stage, self.store, self._cluster.carry)
            known = Handle(stage, result=found) if found else self._start(stage)
            self._memo[stage.key] = known
        return known

    def step(self, timeout_s: float) -> list[Handle]:
        """Wait until a stage ends, at most ``timeout_s``; the handles of all that have ended."""
        waiting = {h.ref: h for h in self._memo.values() if h.result is None}
        if not waiting:
            return []
        refs: list[Any] = list(waiting)
        self._ray.wait(refs, num_returns=1, timeout=timeout_s)
        done, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        ended = [waiting[ref] for ref in done]
        for handle in ended:
            self._finish(handle)
        return ended

    def pending(self, stage: Stage) -> bool:
        """Whether asking for the stage would start it: it is neither stored nor under way."""
        return stage.key not in self._memo and not self.store.has(stage.key)

    def broken(self, stages: Iterable[Stage]) -> Result | None:
        """The failure that one of these stages has met already and would meet again, or None."""
        for stage in stages:
            handle = self._memo.get(stage.key)
            if handle is not None and handle.result is not None and not handle.result.ok:
                return handle.result
        return None

    def stage_seconds(self, stages: Iterable[Stage]) -> dict[str, float]:
        """Seconds each stage took when it ran, by name, of those the store holds."""
        seconds: defaultdict[str, float] = defaultdict(float)
        for stage in stages:
            if self.store.has(stage.key):
                seconds[stage.name] += float(self.store.meta(stage.key)["seconds"])
        return dict(seconds)

    def cancel(self, handle: Handle) -> None:
        """Give up a stage that has not ended, for good: nothing else is to be run after it.

        Ray now and then loses the core of a task that is cancelled while it is handed out.
        """
        if handle.result is None and handle.ref is not None:
            self._ray.cancel(handle.ref, force=True)
            handle.result = Result(handle.stage.key, handle.stage.name, error="cancelled")
            self._memo.pop(handle.stage.key, None)

    def under_way(self) -> list[Handle]:
        """The stages that have been asked for and have not ended."""
        return [handle for handle in self._memo.values() if handle.result is None]

    def progress(self) -> list[str]:
        """How far the stages under way are, of those that tell it: ``distill: epoch 3 of 10``.

        What an earlier session left is not told, nor what runs on a disk that is not seen here.
        """
        lines = []
        for stage in (handle.stage for handle in self.under_way()):
            path = execute.scratch(stage, self.store.root) / progress.FILE
            with suppress(OSError):  # there is none, or the stage ended just now
                line = path.read_text() if path.stat().st_mtime >= self._opened else ""
                if line:
                    lines.append(f"{stage.name}: {line}")
        return lines

    def _start(self, stage: Stage) -> Handle:
        self._deaths.pop(stage.key, None)
        inputs = [self.submit(s) for s in stage.inputs]
        arguments = [handle.result or handle.ref for handle in inputs]
        task = self._task.options(name=stage.name, **self._resources(stage))
        root = str(self.store.root.resolve())
        ref = task.remote(stage, root, self._cluster.cores, self._cluster.carry, *arguments)
        return Handle(stage, ref)

    def _resources(self, stage: Stage) -> dict[str, Any]:
        if not stage.lane:
            return {"num_cpus": 1}
        target = self._targets[stage.lane]
        everything = len(self._cluster.cores or (0,))  # so that nothing prepares meanwhile
        return {
            "num_cpus": everything if target.shared else 0,
            "resources": {target.resource: 1},
        }

    def _finish(self, handle: Handle) -> None:
        """Keep the result; a stage whose worker died is forgotten once, to be tried later."""
        try:
            result: Result = self._ray.get(handle.ref)
        except self._ray.exceptions.RayError as error:
            result = self._lost(handle.stage, error)
            if self._tries[result.key] < TRIES:
                self._memo.pop(handle.stage.key, None)
        handle.ref = None
        handle.result = result
        if result.executed and result.key == handle.stage.key:
            self.executed[handle.stage.name] += 1
        if result.payload is not None and not self.store.has(result.key):
            self.store.unpack(result.key, result.payload)

    def _lost(self, stage: Stage, error: Exception) -> Result:
        """The failure of the stage whose worker died: the first of the chain that is not there."""
        first = next((s for s in stage.chain() if not self.store.has(s.key)), stage)
        if first.key not in self._deaths:  # the same words for all that depend on it
            self._deaths[first.key] = self._words(first, error)
        executed = first.key == stage.key
        seconds = first.timeout_s if self._tries[first.key] >= TRIES else 0.0
        began = time.time() - seconds
        words = self._deaths[first.key]
        return Result(first.key, first.name, executed, seconds, began, error=words)

    def _words(self, stage: Stage, error: Exception) -> str:
        """Why a worker died; each death is counted, one that ran out of time for good."""
        self._tries[stage.key] += 1
        if execute.overdue(stage, self.store.root):
            self._tries[stage.key] = TRIES
            return f"took longer than {stage.timeout_s:g} s and was ended"
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            return "ran out of memory and was ended"
        if isinstance(error, self._ray.exceptions.WorkerCrashedError):
            return f"the worker process crashed ({_CRASH})"
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


_CRASH = "a fault in native code, a kill from outside, or os._exit in the code that it ran"
