"""TPE: better than chance, and told the truth about failures."""

import statistics

import numpy as np
import pytest

from autotune import plugins
from autotune.front import hypervolume
from autotune.samplers import tpe
from autotune.space import Choice, Is, Knob, Space
from autotune.trial import Completed, Estimate, Failed, Measurement, Trial

OBJECTIVES = {"accuracy": "max", "latency_p50_ms": "min"}
SPACE = Space(
    (
        Knob("batch", Choice((1, 2, 4, 8, 16))),
        Knob("width", Choice((16, 8, 4))),
        Knob("depth", Choice((2, 1))),
        Knob("structure", Choice(("none", "channel"))),
        Knob("ratio", Choice((0.3, 0.5, 0.7)), when=Is("structure", ("channel",))),
        Knob("precision", Choice(("fp32", "bf16", "int8"))),
        Knob("samples", Choice((32, 128)), when=Is("precision", ("int8",))),
        Knob("backend", Choice(("torch", "onnxruntime", "openvino"))),
        Knob("level", Choice(("off", "basic", "all")), when=Is("backend", ("onnxruntime",))),
        Knob("hint", Choice(("latency", "throughput")), when=Is("backend", ("openvino",))),
    )
)
SLOWNESS = {
    "torch": 8.0,
    "onnxruntime": 3.0,
    "openvino": 2.5,
    "fp32": 1.0,
    "bf16": 0.6,
    "int8": 0.4,
}
LOSS = {16: 0.0, 8: 0.01, 4: 0.03, "fp32": 0.0, "bf16": 0.001, "int8": 0.004}


def measured(point):
    """(accuracy, latency): interactions of backend, precision and structure, as in real sweeps."""
    kept = 1 - point.get("ratio", 0.0)
    work = point["batch"] ** 0.9 * point["width"] / 16 * point["depth"] * kept
    level = {"off": 1.5, "basic": 1.2, "all": 0.9}.get(point.get("level"), 1.0)
    latency = work * level * SLOWNESS[point["backend"]] * SLOWNESS[point["precision"]]
    loss = LOSS[point["width"]] + LOSS[point["precision"]] + 0.05 * (1 - kept) ** 2
    return 0.99 - loss - 0.004 * (point["depth"] == 1), latency


def completed(number, point, latency=None):
    accuracy, own = measured(point)
    values = {"accuracy": Estimate(accuracy), "latency_p50_ms": Estimate(latency or own)}
    return Trial(number, point, "sampler", Completed(Measurement(values)))


def volume(points):
    rows = np.array([(a, np.log(ms)) for a, ms in map(measured, points)])
    return hypervolume(rows, [True, False], np.array([0.85, np.log(130.0)]))


def trials_needed(name, seed, wanted, most):
    suggest = plugins.load("samplers", name).sampler(SPACE, OBJECTIVES)
    history = []
    while len(history) < most:
        history.append(completed(len(history), suggest(history, seed)))
        if volume([t.configuration for t in history]) >= wanted:
            break
    return len(history)


def test_it_needs_fewer_trials_than_chance():
    wanted = 0.92 * volume(SPACE.grid().points)
    needed = {
        name: statistics.median(trials_needed(name, seed, wanted, 100) for seed in range(10))
        for name in ("tpe", "random")
    }
    assert needed["tpe"] < 0.7 * needed["random"]


def test_what_always_fails_is_proposed_less_and_less():
    suggest = tpe.sampler(SPACE, OBJECTIVES)
    history = []
    for number in range(60):
        point = suggest(history, 1)
        fails = point["backend"] == "openvino"
        trial = Trial(number, point, "sampler", Failed("open", "crashed"))
        history.append(trial if fails else completed(number, point))
    late = [t.configuration["backend"] for t in history[30:]]
    assert late.count("openvino") <= 5


def test_a_running_trial_keeps_the_next_proposals_away():
    suggest = tpe.sampler(SPACE, OBJECTIVES)
    history = []
    for number in range(20):
        history.append(completed(number, suggest(history, 0)))
    alone = suggest(history, 0)
    for number in range(20, 26):
        history.append(Trial(number, suggest(history, 0), "sampler"))
    assert history[20].configuration == alone
    assert len({t.configuration.key for t in history}) == 26


def study_values(memory, history):
    """What Optuna is told, by trial, once questions are left out."""
    told = memory.study(history).get_trials(deepcopy=False)
    return [t.values for t in told if t.state.name == "COMPLETE"]


def test_a_new_worst_value_reaches_the_failures_of_before():
    points = SPACE.grid().points
    history = [completed(0, points[0]), Trial(1, points[1], "sampler", Failed("export", "crashed"))]
    memory = tpe._Memory(tuple(map(tpe._axis, SPACE.knobs)), OBJECTIVES)
    worst = study_values(memory, history)
    assert worst[0] == worst[1]
    slow = completed(2, points[2], latency=1e6)
    first, failed, last = study_values(memory, [*history, slow])
    assert failed == [min(first[0], last[0]), last[1]]


def test_another_history_of_the_same_points_is_not_mixed_with_the_first():
    points = SPACE.grid().points[::130]
    history = [completed(n, p) for n, p in enumerate(points)]
    other = [completed(n, p, latency=1 / measured(p)[1]) for n, p in enumerate(points)]
    suggest = tpe.sampler(SPACE, OBJECTIVES)
    suggest(history, 0)
    assert suggest(other, 0) == tpe.sampler(SPACE, OBJECTIVES)(other, 0)
    assert suggest(other, 0) != suggest(history, 0)


@pytest.mark.parametrize(
    ("better", "expected"), [("min", [0.0, 2.0, 2.0]), ("max", [0.0, 2.0, 0.0])]
)
def test_a_missing_value_counts_as_the_worst_seen(better, expected):
    point = SPACE.grid().points[0]
    known = [Completed(Measurement({"x": Estimate(v)})) for v in (0.0, 2.0)]
    history = [Trial(n, point, "sampler", o) for n, o in enumerate([*known, Failed("a", "b")])]
    assert [v for (v,) in tpe._values(history, {"x": better})] == expected
    assert tpe._values([Trial(0, point, "sampler")], {"x": better}) == [None]
