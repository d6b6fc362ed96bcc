"""What this machine is."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

from autotune.target import Machine

_FLAGS = ("avx", "avx2", "avx512", "avx_vnni", "amx", "fma", "f16c", "asimd", "bf16", "i8mm", "sve")


@cache
def machine() -> Machine:
    """The machine as found: cores are those this process was allowed when first asked."""
    import psutil

    name, flags = _cpu()
    return Machine(
        cpu=name,
        flags=tuple(sorted(f for f in flags if f.startswith(_FLAGS))),
        cores=tuple(sorted(os.sched_getaffinity(0))),
        memory_bytes=int(psutil.virtual_memory().total),
    )


def whole_machine() -> Machine:
    """As ``machine``, with every core that the first process has: a node may be pinned to fewer."""
    try:
        cores = os.sched_getaffinity(1)
    except OSError:
        cores = os.sched_getaffinity(0)
    return replace(machine(), cores=tuple(sorted(cores)))


def usual_lane(machine: Machine) -> int:
    """The cores of a lane where nobody says it: half of the machine's, one at least."""
    return max(1, len(machine.cores) // 2)


def bf16_kernels(machine: Machine) -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AVX512-BF16, AMX; Arm: BF16)."""
    return any(machine.has(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def instruction_sets(machine: Machine) -> dict[str, bool]:
    """Whether the processor has each of the instruction sets that decide how fast inference is."""
    return {
        word: any(flag.startswith(start) for flag in machine.flags for start in starts)
        for word, starts in _SETS.items()
    }


_SETS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni", "asimddp"),
    "AMX": ("amx_tile",),
    "BF16": ("avx512_bf16", "amx_bf16", "bf16"),
    "FP16": ("avx512_fp16", "amx_fp16", "asimdhp"),
}
"""The flags of each, x86's and Arm's."""


def _cpu() -> tuple[str, frozenset[str]]:
    """The processor's name and flags, from the kernel where it tells them (py-cpuinfo is slow)."""
    fields: dict[str, str] = {}
    source = Path("/proc/cpuinfo")
    for line in source.read_text().splitlines() if source.exists() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", ""))
    if "model name" in fields and flags:
        return fields["model name"], frozenset(flags.split())
    import cpuinfo

    info = cpuinfo.get_cpu_info()
    return str(info.get("brand_raw", "unknown")), frozenset(info.get("flags", ()))
