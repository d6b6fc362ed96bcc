"""Memory of this process, as the kernel counts it."""

import subprocess
import sys

import numpy as np
import pytest

from autotune.measure.memory import peak_rss_bytes, reset_peak, rss_bytes

SIZE = 64 * 2**20


def test_the_peak_remembers_what_is_gone():
    before = rss_bytes()
    block = np.ones(SIZE, dtype=np.uint8)
    assert rss_bytes() >= before + SIZE * 0.9
    del block
    assert rss_bytes() < before + SIZE * 0.5
    assert peak_rss_bytes() >= before + SIZE * 0.9


def test_a_heap_that_is_held_is_not_given_back():
    """A process frees and allocates 36 MB again and again; pages that were given back fault."""
    program = """
import resource, sys
from autotune.measure.memory import hold_heap
held = sys.argv[1] == "held" and hold_heap()
import numpy as np
def fill():
    return [np.ones(12 * 2**20, dtype=np.uint8) for _ in range(3)]
for _ in range(3):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, held)
"""
    told = {}
    for word in ("held", "free"):
        ask = [sys.executable, "-c", program, word]
        faults, held = subprocess.run(
            ask, capture_output=True, text=True, check=True
        ).stdout.split()
        told[word] = int(faults), held
    if told["held"][1] != "True":
        pytest.skip("this C library cannot be told to keep its heap")
    assert told["held"][0] < told["free"][0] / 10


def test_the_peak_can_begin_again():
    block = np.ones(SIZE, dtype=np.uint8)
    high = peak_rss_bytes()
    del block
    if not reset_peak():
        pytest.skip("this kernel does not reset the peak")
    assert peak_rss_bytes() <= high - SIZE * 0.5
    assert peak_rss_bytes() == pytest.approx(rss_bytes(), abs=8 * 2**20)
