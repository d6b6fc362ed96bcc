"""A cluster that exists: its lanes, and artifacts that travel where nodes share no disk."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from engine_stages import stage
from ray.cluster_utils import Cluster

from autotune.engine.cluster import cluster, machines
from autotune.engine.graph import Graph
from autotune.errors import MachineError
from autotune.store.artifacts import Store

HERE = str(Path(__file__).parent)
RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture(scope="module")
def head():
    """A head without cores of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", HERE)
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        yield found.address
        found.shutdown()


@pytest.fixture(scope="module")
def elsewhere(head, target, tmp_path_factory):
    """A node that offers the lane, and to which the folder that is returned is another disk."""
    folder = tmp_path_factory.mktemp("elsewhere")
    start = f"mount -t tmpfs tmpfs {folder} && exec {RAY} start --address={head} --num-cpus=1 "
    start += f"--resources='{{\"{target.resource}\": 1}}' --block"
    log = (tmp_path_factory.mktemp("log") / "node").open("w+")
    node = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", start],
        stdout=log,
        stderr=log,
        env={**os.environ, "PYTHONPATH": HERE},
    )
    yield folder, node
    node.terminate()
    node.wait(30)
    log.close()


def test_a_ray_that_cannot_start_is_told(target, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 120)  # Ray's sockets have no room for their names there
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with pytest.raises(MachineError, match="Ray did not start on this machine"), cluster([target]):
        pytest.fail("it started")


def test_a_cluster_without_the_lane_is_told_how_to_offer_it(head, target):
    message = "no node of the cluster offers the lane of target 'local'"
    with pytest.raises(MachineError, match=message) as caught, cluster([target], head):
        pass
    assert "ray start --address=" in caught.value.remedy
    assert f"'{{\"{target.resource}\": 1}}'" in caught.value.remedy
    assert not ray.is_initialized()


def test_no_cluster_at_the_address(target):
    message = "no Ray cluster answers at 127"
    with pytest.raises(MachineError, match=message) as caught, cluster([target], "127.0.0.1:9"):
        pass
    assert "ray start --head" in caught.value.remedy


def test_artifacts_travel_to_nodes_that_do_not_share_the_disk(head, elsewhere, target, capfd):
    folder, node = elsewhere
    wait_for_lane(head, target, node)
    with cluster([target], head, folder / "store") as where:
        assert where.cores is None
        assert where.carry
        assert machines([target]) == {"local": target.machine}
        graph = Graph(Store(folder / "store"), where, {"local": target})
        ledger = str(folder / "ledger")  # written on the other node's disk, not on this one
        here = stage("count", ledger=ledger, add=5)
        put(graph.store, here)
        below = stage("count", here, ledger=ledger, add=10)
        last = stage("count", below, ledger=ledger, add=100, lane="local")
        handle = graph.submit(last)
        deadline = time.monotonic() + 60
        while handle.result is None and time.monotonic() < deadline:
            graph.step(0.2)
    assert handle.result is not None
    assert handle.result.error == ""
    assert (graph.store.open(last.key) / "value").read_text() == "115"
    assert (graph.store.open(below.key) / "value").read_text() == "15"
    assert graph.executed == {"count": 2}
    assert not (folder / "ledger").exists()


def put(store, stage):
    """An artifact that is there before the graph begins, as the taken-in model is."""
    with store.writing(stage.key) as out:
        (out / "value").write_text("5")
        store.commit(stage.key, out, stage=stage.name, seconds=0.1, facts={})


def wait_for_lane(head, target, node):
    """Until the other node has joined; skip where no disk of its own can be mounted for it."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if node.poll() is not None:
            pytest.skip("a node with a disk of its own needs root")
        try:
            with cluster([target], head):
                return
        except MachineError:
            time.sleep(0.5)
    raise AssertionError("the other node does not join")
