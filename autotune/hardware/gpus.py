"""NVIDIA GPUs, as their driver tells them through NVML: which there are, their memory, energy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autotune.target import Gpu

DRIVER = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""What a machine with an NVIDIA driver has: one of these (the second inside WSL)."""
LEAST_DRIVER = 525
"""The first driver with CUDA 12, which every runtime here wants."""
EXTRA = "pip install 'autotune[gpu]'"


@dataclass(frozen=True)
class Accelerators:
    """The GPUs of this machine.

    Attributes:
        gpus: In the order of their numbers.
        missing: Why there is none, one sentence; "" where there is one.
        remedy: What would be right; "" where there is one.
    """

    gpus: tuple[Gpu, ...] = ()
    missing: str = ""
    remedy: str = ""


def driver() -> bool:
    """Whether this machine has an NVIDIA driver: a look at a file, nothing is loaded."""
    return any(path.exists() for path in DRIVER)


def accelerators() -> Accelerators:
    """Ask the driver which GPUs there are."""
    if find_spec("pynvml") is None:
        return Accelerators(
            (), "the GPUs cannot be asked for: nvidia-ml-py is not installed", EXTRA
        )
    import pynvml

    try:
        with _nvml() as nvml:
            version = str(nvml.nvmlSystemGetDriverVersion())
            count = int(nvml.nvmlDeviceGetCount())
            gpus = tuple(_gpu(nvml, index, version) for index in range(count))
    except pynvml.NVMLError as error:
        return Accelerators((), *_words(error))
    return judged(gpus, version)


def judged(gpus: tuple[Gpu, ...], driver: str) -> Accelerators:
    """These GPUs where their driver is new enough; else why they are of no use, and what helps."""
    if not gpus:
        return Accelerators((), "the NVIDIA driver finds no GPU", "see what nvidia-smi says")
    if int(driver.partition(".")[0]) < LEAST_DRIVER:
        remedy = f"install driver {LEAST_DRIVER} or newer, which brings CUDA 12"
        return Accelerators((), f"the NVIDIA driver {driver} is too old", remedy)
    return Accelerators(gpus)


def alike(gpus: Sequence[Gpu], told: Mapping[str, Any]) -> Gpu | None:
    """Of ``gpus`` one of the product that was told of, of its number where there are several.

    ``told`` is the record of a ``Gpu``. None where no such product is among them.
    """
    same = [gpu for gpu in gpus if gpu.name == told["name"]]
    return next((gpu for gpu in same if gpu.index == told["index"]), same[0] if same else None)


def used_bytes(index: int) -> int:
    """Memory of GPU ``index`` that is taken, by whomever."""
    with _nvml() as nvml:
        return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index)).used)


def energy_mj(index: int) -> int | None:
    """Millijoules that GPU ``index`` took since its driver was loaded; None: it does not count."""
    import pynvml

    try:
        with _nvml() as nvml:
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            return int(nvml.nvmlDeviceGetTotalEnergyConsumption(device))
    except pynvml.NVMLError_NotSupported:
        return None


@contextmanager
def _nvml() -> Iterator[Any]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int, driver: str) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
    memory = int(nvml.nvmlDeviceGetMemoryInfo(device).total)
    return Gpu(index, str(nvml.nvmlDeviceGetName(device)), memory, f"{major}.{minor}", driver)


def _words(error: Exception) -> tuple[str, str]:
    """What NVML's error means, and what would help."""
    import pynvml

    if isinstance(error, pynvml.NVMLError_LibraryNotFound | pynvml.NVMLError_DriverNotLoaded):
        return "this machine has no NVIDIA driver", "install it, or run where a GPU is"
    return f"the NVIDIA driver does not answer: {error}", "see what nvidia-smi says"
