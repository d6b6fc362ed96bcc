"""The least time that a GPU can take for a request: its work at the peaks of the data sheet.

Williams et al., Roofline, 2009: no kernel is faster than its operations at the peak of the cores,
nor than its bytes at the peak of the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}
"""Of a stored number of each precision."""


@dataclass(frozen=True)
class Peak:
    """What a GPU reaches at most, on dense matrices.

    Attributes:
        tflops: 10^12 operations a second, by precision; what it lacks is not there.
        gbps: 10^9 bytes a second from its memory.
    """

    tflops: Mapping[str, float]
    gbps: float


def _peak(fp32: float, tf32: float, fp16: float, int8: float, gbps: float, *, fp8: bool) -> Peak:
    found = {"fp32": fp32, "tf32": tf32, "fp16": fp16, "bf16": fp16, "int8": int8}
    return Peak({**found, **({"fp8": int8} if fp8 else {})}, gbps)


_H100 = {"fp32": 66.9, "tf32": 494.7, "fp16": 989.4, "int8": 1978.9}
PEAKS: Mapping[str, Peak] = {
    "NVIDIA H200": _peak(**_H100, gbps=4800, fp8=True),
    "NVIDIA H100 80GB HBM3": _peak(**_H100, gbps=3350, fp8=True),
    "NVIDIA H100 PCIe": _peak(51, 378, 756, 1513, 2000, fp8=True),
    "NVIDIA L40S": _peak(91.6, 183, 362, 733, 864, fp8=True),
    "NVIDIA L4": _peak(30.3, 60, 121, 242, 300, fp8=True),
    "NVIDIA A100-SXM4-80GB": _peak(19.5, 156, 312, 624, 2039, fp8=False),
    "NVIDIA A100-SXM4-40GB": _peak(19.5, 156, 312, 624, 1555, fp8=False),
    "NVIDIA A10": _peak(31.2, 62.5, 125, 250, 600, fp8=False),
    "Tesla T4": Peak({"fp32": 8.1, "fp16": 65, "int8": 130}, 320),
}
"""By the driver's name of the product, at its boost clock (NVIDIA's data sheet of each product;
where that tells figures of sparse matrices, half of them)."""


def floor_ms(peak: Peak, precision: str, macs: float, read: float) -> float | None:
    """Milliseconds below which no request can be; None: the GPU lacks the precision.

    Inputs and outputs, and what lies between the layers, may stay in caches and count for nothing.

    Args:
        peak: Of the GPU.
        precision: What it computes and stores in; ``tf32`` where that stands for fp32.
        macs: Multiply-accumulates of the whole request.
        read: Weights of which a request reads each once.
    """
    if precision not in peak.tflops:
        return None
    return max(
        2 * macs / (peak.tflops[precision] * 1e9), read * BYTES[precision] / (peak.gbps * 1e6)
    )
