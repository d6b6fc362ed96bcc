"""Entropy calibration: outliers are clipped, even distributions are not, and models stay near."""

import numpy as np
import pytest
import torch
from conversion_nets import DATA, ONNX, Attention, Convolutions, exported, made, written
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from autotune.backends import onnxruntime as backend
from autotune.conversion import entropy, qdq

INT8 = {"precision": "int8", "onnxruntime.level": "all", "ptq.samples": 32}


def chosen(values, symmetric=False):
    """The range of these values."""
    both = entropy.span(values.min(), values.max(), symmetric)
    if not entropy.divisible(*both):
        return values.min(), values.max()
    limit = entropy.threshold(entropy.histogram(values, *both), *both)
    return np.clip((values.min(), values.max()), -limit, limit)


def rounded(values, low, high):
    """What 8 bits make of them, between ``low`` and ``high`` and zero."""
    low, high = min(low, 0), max(high, 0)
    step = (high - low) / 255
    zero = np.rint(-low / step)
    return (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step


def noise(values, low, high):
    return np.square(rounded(values, low, high) - values).mean()


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_outliers_are_clipped_and_the_rest_is_nearer(seed, positive):
    bulk = np.random.default_rng(seed).normal(size=50_000).astype(np.float32)
    if positive:
        bulk = np.maximum(bulk, 0)
    values = np.append(bulk, np.float32([100] if positive else [100, -80]))
    low, high = chosen(values)
    assert high < 40
    assert low >= (0 if positive else -40)
    assert noise(bulk, low, high) < noise(bulk, values.min(), values.max()) / 4


def test_an_outlier_on_one_side_leaves_a_short_side_whole():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=50_000).astype(np.float32))
    values = np.append(torch.nn.functional.gelu(x).numpy(), np.float32(100))
    low, high = chosen(values)
    assert low == values.min()
    assert high < 40


@pytest.mark.parametrize("bounds", [(-1, 1), (0, 3), (-5, 0), (2, 3), (-0.1, 7)])
@pytest.mark.parametrize("count", [1000, 100_000])
@pytest.mark.parametrize("symmetric", [False, True])
def test_values_spread_evenly_keep_their_whole_range(bounds, count, symmetric):
    values = np.random.default_rng(0).uniform(*bounds, count).astype(np.float32)
    low, high = chosen(values, symmetric)
    kept = ((values >= low) & (values <= high)).mean()
    assert kept == 1 if count > 1000 else kept >= 0.99


@pytest.mark.parametrize(
    ("symmetric", "extremes", "reach"),
    [
        (False, (-1, 3), (-1, 3)),
        (False, (1, 3), (0, 3)),
        (False, (-3, -1), (-3, 0)),
        (True, (-1, 3), (-3, 3)),
        (True, (-3, -1), (-3, 3)),
    ],
)
def test_eight_bits_reach_to_zero_and_as_far_on_both_sides_if_symmetric(symmetric, extremes, reach):
    assert entropy.span(*extremes, symmetric) == reach


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_zeros_do_not_decide(share):
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(size=20_000)).astype(np.float32)
    padded = np.append(values, np.zeros(int(len(values) * share / (1 - share)), np.float32))
    assert tuple(chosen(padded)) == (0 if share else values.min(), chosen(values)[1])


@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=50),
    symmetric=st.booleans(),
)
@settings(max_examples=60)
def test_a_range_is_never_wider_than_the_values(values, symmetric):
    array = np.array(values, np.float32)
    low, high = chosen(array, symmetric)
    assert array.min() <= low <= high <= array.max()


@pytest.mark.parametrize("scheme", ["mixed", "symmetric"])
@pytest.mark.parametrize("operators", ["all", "products"])
@pytest.mark.parametrize("net", [Convolutions, Attention])
def test_a_model_calibrated_by_entropy_is_as_near_as_by_minmax(net, operators, scheme, tmp_path):
    torch.manual_seed(0)
    x = exported(net(), tmp_path)
    words = INT8 | {"onnxruntime.operators": operators, "ptq.scheme": scheme}
    with backend.open(tmp_path / "onnx", INT8, len(x), 1) as session:
        exact = session.run({"x": x})
    far = {}
    for method in ("minmax", "entropy"):
        asked = words | {"ptq.method": method}
        artifact, _ = made(backend.stages(asked, ONNX, DATA), tmp_path)
        with backend.open(artifact, asked, len(x), 1) as session:
            far[method] = np.linalg.norm(session.run({"x": x}) - exact)
            assert session.facts()["kernels"]["fp32"] == 0
    assert far["entropy"] < 1.5 * far["minmax"] < 0.15 * np.linalg.norm(exact)


def test_a_wild_pixel_costs_a_model_less_than_with_minmax(tmp_path):
    """One value in a sample of thousands is a hundred times the others."""
    rng = np.random.default_rng(0)
    tensors = {"first": rng.normal(size=(16, 8)), "second": rng.normal(size=(8, 4))}
    tensors = {name: array.astype(np.float32) for name, array in tensors.items()}
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], name="a"),
        helper.make_node("MatMul", ["a", "second"], ["y"], name="b"),
    ]
    x = written(nodes, tensors, (128, 16), tmp_path)
    wild = x.copy()
    wild[3, 5, 2] = 300
    np.save(tmp_path / "data" / "calibration.x0.npy", wild)
    exact = x @ tensors["first"] @ tensors["second"]
    far = {}
    for method in ("minmax", "entropy"):
        asked = INT8 | {"ptq.method": method}
        artifact, _ = made(qdq.stage(ONNX, DATA, asked), tmp_path)
        with backend.open(artifact, asked, len(x), 1) as session:
            far[method] = np.linalg.norm(session.run({"x": x}) - exact)
    assert far["entropy"] < far["minmax"] / 3
