"""The instrument by itself, as docs/measuring.md shows it."""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from autotune import measure
from autotune.errors import MachineError
from autotune.measure.clock import COARSEST_NS, fine_enough
from autotune.measure.loop import LoopSettings, time_calls

DOCS = Path(__file__).parents[2] / "docs" / "measuring.md"


def section(title):
    """The code blocks of a section of the page."""
    text = DOCS.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)


def test_the_code_of_the_page_runs(tmp_path):
    """As it stands, but for less time."""
    blocks = section("From Python")
    assert len(blocks) == 3
    code = "\n".join(blocks).replace("seconds=2", "seconds=0.3")
    code = code.replace("@ faster)", "@ faster, pairs=6, block_s=0.02)")
    (tmp_path / "page.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^p50 +[\d.]+ ms +95 %: [\d.]+ to [\d.]+$", done.stdout, re.M)
    assert re.search(r"^p99 +[\d.]+ ms +95 %: ", done.stdout, re.M)
    assert done.stdout.count("Estimate(") == 1


def test_every_input_has_its_turn_and_the_figures_are_those_of_its_samples():
    seen = []

    def call(request):
        seen.append(request)
        time.sleep(0.002)

    found = measure.latency(call, list("abcdefghijklmnopqrst"), seconds=0.3, batch=4)
    assert "".join(seen).startswith("abcdefghijklmnopqrstabcde")
    samples_ms = found.timing.samples_ns / 1e6
    assert found.p50.value == pytest.approx(np.median(samples_ms))
    assert found.p50.low <= found.p50.value <= found.p50.high
    assert found.p50.value >= 2
    assert found.per_second.value == pytest.approx(4e3 / samples_ms.mean())
    assert not any("inputs" in words for words in found.warnings)


def test_what_a_reader_must_know_is_said():
    found = measure.latency(lambda _: None, [1, 2], seconds=0.1)
    told = " ".join(found.warnings)
    assert "2 distinct inputs may stay in a cache" in told
    assert f"a sample is the mean of {found.timing.group} calls" in told
    slow = measure.latency(lambda: time.sleep(0.05), seconds=0.2)
    assert any("too few independent samples" in words for words in slow.warnings)
    assert re.search(r"^p99 .* to unknown$", measure.table(slow), re.M)


@pytest.mark.parametrize(
    ("given", "words"),
    [({"inputs": []}, "inputs is empty"), ({"seconds": 0}, "above zero"), ({"batch": 0}, "above")],
)
def test_what_cannot_be_measured_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        measure.latency(lambda *_: None, **given)


def test_a_clock_that_is_too_coarse_is_told_before_anything_is_measured(monkeypatch):
    """A clock of ticks of 15 ms, as some systems have."""
    clock, called = time.perf_counter_ns, []
    tick = 15_000_000
    monkeypatch.setattr(time, "perf_counter_ns", lambda: clock() // tick * tick)
    with pytest.raises(MachineError, match="it tells no less than 15 ms") as caught:
        time_calls(called.append, settings=LoopSettings())
    assert caught.value.place == "time.perf_counter_ns"
    assert not called
    assert fine_enough(COARSEST_NS) == COARSEST_NS
