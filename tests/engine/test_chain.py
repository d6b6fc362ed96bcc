"""Whole configurations of the tiny task through the real stages on a real Ray."""

import numpy as np
import pytest

from autotune.engine.graph import Graph
from autotune.engine.judge import SCORES
from autotune.engine.plan import Effort, plan
from autotune.space import Configuration

EFFORT = Effort(precision=0.05, min_s=0.1, max_s=0.2, timeout_s=120)
GIVEN = {
    "batch": 1,
    "threads": 1,
    "precision": "fp32",
    "backend": "onnxruntime",
    "onnxruntime.level": "all",
    "onnxruntime.conv_fusion": True,
    "onnxruntime.nchwc": True,
    "onnxruntime.spinning": True,
    "student.width": 16,
    "prune.structure": "none",
}
PRUNED = GIVEN | {
    "prune.structure": "channel",
    "prune.ratio": 0.25,
    "prune.round_to": 4,
    "finetune.epochs": 3,
}
INT8 = PRUNED | {
    "batch": 4,
    "precision": "int8",
    "ptq.samples": 16,
    "ptq.method": "minmax",
    "backend": "openvino",
    "openvino.hint": "latency",
}
STUDENT = {**GIVEN, "student.width": 8, "distill.epochs": 8}


@pytest.fixture(scope="module")
def results(local_ray, tiny_taken, target):
    """Every configuration's results, all asked for at once, and the graph."""
    store, subject, _ = tiny_taken
    graph = Graph(store, local_ray, {"local": target})
    handles = {}
    for name, settings in {
        "given": GIVEN,
        "pruned": PRUNED,
        "int8": INT8,
        "student": STUDENT,
    }.items():
        point = Configuration(tuple(sorted(settings.items())))
        found = plan(point, subject, {"local": target}, EFFORT)
        handles[name] = (found, graph.submit(found.accuracy), graph.submit(found.latency))
    while graph.under_way():
        graph.step(1.0)
    return graph, handles


def test_every_one_is_measured(results):
    _, handles = results
    for name, (_, accuracy, latency) in handles.items():
        assert accuracy.result.error == "", name
        assert latency.result.error == "", name
        assert latency.result.facts["columns"]["latency_p50_ms"]["value"] > 0
        assert 0.5 < accuracy.result.facts["columns"]["accuracy"]["value"] <= 1


def test_what_they_share_ran_once(results):
    graph, _ = results
    assert graph.executed["prune"] == graph.executed["finetune"] == graph.executed["distill"] == 1
    assert graph.executed["teacher logits"] == 1
    assert graph.executed["export"] == graph.executed["reference"] == 3
    assert graph.executed["quantize"] == 1
    assert graph.executed["accuracy"] == graph.executed["latency"] == 4


def test_the_facts_are_those_of_what_was_asked(results):
    _, handles = results
    int8 = handles["int8"][1].result.facts
    assert int8["runtime"]["kernels"]["int8"] > 0
    assert 0.9 < int8["check"]["cosine"] <= 1
    given, pruned, student = (handles[n][1].result.facts for n in ("given", "pruned", "student"))
    assert pruned["size_bytes"] < given["size_bytes"]
    assert student["size_bytes"] < pruned["size_bytes"]
    assert given["check"]["cosine"] == pytest.approx(1)


def test_scores_are_kept_by_sample(results):
    graph, handles = results
    found, accuracy, _ = handles["given"]
    scores = np.load(graph.store.open(found.accuracy.key) / SCORES.format("accuracy"))
    assert len(scores) == 96
    assert scores.mean() == accuracy.result.facts["columns"]["accuracy"]["value"]


def test_a_measurement_ran_on_the_lane(results, target):
    _, handles = results
    for _, _, latency in handles.values():
        assert tuple(latency.result.facts["cores"]) == target.lane(0)
