"""The resolved form of a spec: it makes an equal one, and two of them are compared."""

import json

import pytest

from autotune.spec import differences, load, unable

CHANGES = [
    ("", ""),
    ("batch: [1, 8]", "batch: {low: 1, high: 64, log: true}"),
    ("ratio: [0.3, 0.5]", "ratio: {low: 0.1, high: 0.5, step: 0.2}"),
    ("time: 4m", "time: unlimited"),
    ("name: small", 'name: "1e3"'),
    ("    structure: [none, channel]\n    ratio: [0.3, 0.5]\n  finetune: {epochs: 4}",
     "    structure: none"),
    ("    width: [16, 8]\n  distill: {temperature: 4, lr: 6e-3}", "    width: 16"),
    ("  precision: [fp32, int8]\n  ptq: {samples: [32, 128]}\n", ""),
    ("    onnxruntime:\n      level: [basic, all]\n    openvino:", "    [torch, openvino]"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_the_resolved_form_makes_an_equal_spec(old, new, write, again):
    spec = load(write(old, new))
    second = again(spec)
    assert second == spec
    assert second.resolved == spec.resolved
    assert differences(spec.resolved, second.resolved) == []
    json.dumps(spec.resolved, allow_nan=False)  # plain data


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("batch: [1, 8]", "batch: [1, 4]", "space.batch: was [1, 8], is [1, 4]"),
        ("seed: 3", "seed: 4", "seed: was 3, is 4"),
        ("lr: 6e-3", "lr: 5e-3", "space.distill.lr: was 0.006, is 0.005"),
        ("ratio: [0.3, 0.5]", "ratio: {low: 0.3, high: 0.5}",
         "space.prune.ratio: was [0.3, 0.5], is {low: 0.3, high: 0.5}"),
        ("0.10", "0.20", "targets.local.price_per_hour: was 0.1, is 0.2"),
    ],
)  # fmt: skip
def test_differences_are_told_one_by_one(old, new, sentence, write):
    assert differences(load(write()).resolved, load(write(old, new)).resolved) == [sentence]


def test_what_comes_and_goes_is_told(write):
    openvino = differences(load(write()).resolved, load(write("    openvino:\n", "")).resolved)
    assert "space.backend.openvino.hint: was latency, is not there" in openvino
    assert all(line.startswith("space.backend.openvino.") for line in openvino)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("trials: 8", "trials: 80"),
        ("latency_p99 <= 2ms", "latency_p99 <= 3ms"),
        ("name: small", "name: large"),
        ("lr: 6e-3", "lr: 0.006"),
    ],
)
def test_what_a_continuation_may_change_is_no_difference(old, new, write):
    assert differences(load(write()).resolved, load(write(old, new)).resolved) == []


def test_of_a_space_that_cannot_be_counted_a_sample_tells_what_cannot_run(write):
    threads = "threads: [1, 3]"
    spec = load(write("threads: 1", threads))
    counted = spec.space.grid()
    assert sum(counted.removed.values()) > 0
    drawn = unable(spec.space, 400)
    assert drawn.keys() == counted.removed.keys()
    share = sum(counted.removed.values()) / (len(counted.points) + sum(counted.removed.values()))
    assert 0 < sum(drawn.values()) < 400
    assert abs(sum(drawn.values()) / 400 - share) < 0.3
    assert unable(spec.space, 0) == {}
