"""A Ray cluster to work on: a local one of our own, or one that exists."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autotune import hardware
from autotune.engine.quiet import quiet
from autotune.errors import MachineError
from autotune.target import Machine, Target


@dataclass(frozen=True)
class Cluster:
    """Where stages run.

    Attributes:
        cores: What preparing stages pin themselves to; None on a cluster that is not ours.
        carry: Whether artifacts travel with their results, because nodes do not share a disk.
    """

    cores: tuple[int, ...] | None
    carry: bool


@contextmanager
def cluster(
    targets: Sequence[Target], address: str | None = None, store: Path | None = None
) -> Iterator[Cluster]:
    """Start a local Ray that keeps off the lanes, or attach to the one at ``address``.

    A Ray that this process is already connected to is used as it is and left running. Where a node
    does not see the folder ``store``, artifacts travel with the results.

    Raises:
        MachineError: The cluster cannot be reached, or no node offers a target's lane.
    """
    import ray

    if ray.is_initialized():
        _check_lanes(targets)
        yield Cluster(None, carry=not _see(store))
        return
    if address is None:
        with _local(targets) as found:
            yield found
        return
    _reach(address)
    try:
        with quiet():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise MachineError(
            f"no Ray cluster answers at {address}: {_first(error)}",
            remedy="start one with 'ray start --head', or leave --address out",
        ) from error
    try:
        _check_lanes(targets)
        yield Cluster(None, carry=not _see(store))
    finally:
        with quiet():
            ray.shutdown()


def machines(targets: Sequence[Target]) -> Mapping[str, Machine]:
    """The machine behind each target, asked on a node that offers its lane."""
    import ray

    def look() -> Machine:
        return hardware.whole_machine()

    ask = ray.remote(num_cpus=0, max_retries=0)(look)
    refs = {t.name: ask.options(resources={t.resource: 0.001}).remote() for t in targets}
    return {name: ray.get(ref) for name, ref in refs.items()}


@contextmanager
def _local(targets: Sequence[Target]) -> Iterator[Cluster]:
    import ray

    before = os.sched_getaffinity(0)
    cores = targets[0].preparing
    for target in targets[1:]:
        cores = tuple(core for core in cores if core in target.preparing) or cores
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    hardware.pin(cores)
    try:
        with quiet():
            _start(len(cores), {t.resource: t.lanes for t in targets})
        yield Cluster(cores, carry=False)
    finally:
        with quiet():
            ray.shutdown()
        os.sched_setaffinity(0, before)


def _start(cores: int, resources: Mapping[str, int]) -> None:
    """Start a local Ray; once more where a busy machine let it miss its own fixed time limits.

    Ray gives a process of its own 15 s to come up (ray-project/ray, issue 65983).

    Raises:
        MachineError: It did not start twice.
    """
    import ray

    for left in reversed(range(_STARTS)):
        try:
            ray.init(
                address="local",
                num_cpus=cores,
                resources=dict(resources),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=512 * 2**20,
            )
            return
        except Exception as error:  # Ray's are bare ones
            ray.shutdown()
            if not left:
                raise MachineError(
                    f"Ray did not start on this machine: {_first(error)}",
                    remedy="other work may keep every core busy: try again when there is less",
                ) from error


_STARTS = 2


def _reach(address: str) -> None:
    """Find out at once that nobody answers; Ray itself would try for minutes.

    Raises:
        MachineError: Nobody does, or the address is of a kind that cannot run a search.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise MachineError(
            f"--address {address} is not 'auto' or host:port",
            remedy="run autotune on a node of the cluster, with --address auto",
        )
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise MachineError(
            f"no Ray cluster answers at {address}: {error.strerror or error}",
            remedy="start one with 'ray start --head', or leave --address out",
        ) from error


def _see(store: Path | None) -> bool:
    """Whether every node of the cluster sees what this one writes to ``store``."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if store is None or len(nodes) < 2:
        return True
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=store.resolve(), prefix=".seen-") as mark:
        name = mark.name

        def look() -> bool:
            return Path(name).exists()

        ask = ray.remote(num_cpus=0, max_retries=0)(look)
        strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        return all(ray.get([ask.options(scheduling_strategy=s).remote() for s in strategies]))


def _check_lanes(targets: Sequence[Target]) -> None:
    import ray

    offered = ray.cluster_resources()
    for target in targets:
        if offered.get(target.resource, 0) < 1:
            resources = json.dumps({target.resource: target.lanes})
            raise MachineError(
                f"no node of the cluster offers the lane of target '{target.name}'",
                remedy="start one on that machine with: "
                f"ray start --address=<head> --resources='{resources}' --num-cpus=<other cores>",
            )


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
