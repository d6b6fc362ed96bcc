"""Memory of this process, as the kernel counts it."""

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


def test_the_peak_can_begin_again():
    block = np.ones(SIZE, dtype=np.uint8)
    high = peak_rss_bytes()
    del block
    if not reset_peak():
        pytest.skip("this kernel does not reset the peak")
    assert peak_rss_bytes() <= high - SIZE * 0.5
    assert peak_rss_bytes() == pytest.approx(rss_bytes(), abs=8 * 2**20)
