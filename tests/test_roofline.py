"""The roofline floor of a request on a GPU."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.roofline import BYTES, PEAKS, Peak, floor_ms

PEAK = Peak({"fp32": 10.0, "fp16": 40.0}, gbps=100.0)


def test_operations_bound_what_computes_much_and_bytes_what_reads_much() -> None:
    assert floor_ms(PEAK, "fp16", macs=2e9, read=1e3) == pytest.approx(0.1)  # 4 GFLOP at 40 T
    assert floor_ms(PEAK, "fp16", macs=1.0, read=1e7) == pytest.approx(0.2)  # 20 MB at 100 GB/s
    assert floor_ms(PEAK, "fp32", macs=1.0, read=1e7) == pytest.approx(0.4)


def test_a_precision_that_the_gpu_lacks_has_no_floor() -> None:
    assert floor_ms(PEAK, "int8", 1.0, 1.0) is None
    assert floor_ms(PEAKS["Tesla T4"], "bf16", 1.0, 1.0) is None


@given(
    st.sampled_from(sorted(PEAKS)),
    st.floats(1, 1e12, allow_nan=False),
    st.floats(1, 1e10, allow_nan=False),
)
def test_narrower_numbers_never_raise_the_floor(name: str, macs: float, read: float) -> None:
    peak = PEAKS[name]
    floors = {word: floor_ms(peak, word, macs, read) for word in peak.tflops}
    order = [word for word in ("fp32", "tf32", "fp16", "int8") if word in floors]
    found = [floors[word] or 0.0 for word in order]
    assert found == sorted(found, reverse=True)
    assert set(peak.tflops) <= set(BYTES)
