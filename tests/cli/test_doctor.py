"""What ``autotune doctor`` prints of what was found, and its JSON."""

import json

import pytest

from autotune import hardware
from autotune.cli.doctor import _lines, _record
from autotune.engine.doctor import Missed, Plugin, examine
from autotune.engine.noise import Noise
from autotune.engine.probing import Probe

NOISY = Noise((1,), p50_ms=0.2, p95_ms=0.4, waited=0.5, steal=None)
RUNS = Probe("openvino", "bf16", "runs", kernels={"fp32": 0, "bf16": 7}, seconds=0.2)
FAILS = Probe("torch", "int8", "fails", "the process was killed by [red]")


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (NOISY, "2.00 times that at the p95"),
        (NOISY, "too noisy to trust figures measured now[/]: 50.0% of the time another process"),
        (NOISY, "stolen by the host: not told"),
        (RUNS, "openvino bf16: [green]runs[/] (7 bf16)"),
        (FAILS, "torch int8: [red]fails[/]: the process was killed by \\[red]"),
        (Plugin("backends", "tensorrt", "NVIDIA", "no driver"), "backend tensorrt: [red]no[/]"),
        (Plugin("metrics", "top1", "a share"), "metric top1: a share"),
        (Missed("noise", "no core"), "noise not found out[/]: no core"),
    ],
)
def test_a_finding_in_words(finding, words):
    assert words in "\n".join(_lines(finding))


def test_the_machine_in_words():
    text = "\n".join(_lines(next(examine(quick=True))))
    here = hardware.machine()
    assert f"cores: {len(here.cores)}," in text
    assert "a lane has core" in text
    for word, there in hardware.instruction_sets(here).items():
        assert (word in text.partition("instruction sets: ")[2].partition(";")[0]) == there


def test_the_json_holds_every_finding():
    found = json.loads(json.dumps(_record([*examine(quick=True), NOISY, RUNS, FAILS])))
    assert found["noise"]["spread"] == 2.0
    assert len(found["noise"]["warnings"]) == 2
    assert [one["verdict"] for one in found["precisions"]] == ["runs", "fails"]
    assert found["machine"]["machine"]["cpu"] == hardware.machine().cpu
