"""Where a configuration is meant to run: the machine, its targets and their lanes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Machine:
    """What a machine is: everything that a measurement on it depends on.

    Attributes:
        cpu: The processor's name.
        flags: Its instruction-set flags that matter to inference (``avx512_vnni``, ...), sorted.
        cores: The cores that this process may use.
        memory_bytes: Installed memory.
    """

    cpu: str
    flags: tuple[str, ...]
    cores: tuple[int, ...]
    memory_bytes: int

    def has(self, flag: str) -> bool:
        return flag in self.flags


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, as its driver describes it.

    Attributes:
        index: Its number on the machine.
        name: The product's name.
        memory_bytes: Its own memory.
        capability: The compute capability, which says what its cores can do: ``8.9``.
        driver: The driver's version.
    """

    index: int
    name: str
    memory_bytes: int
    capability: str
    driver: str

    def has(self, word: str) -> bool:
        """Whether its cores multiply in this precision (``tf32`` and ``fp8`` are asked for too)."""
        least = _SINCE.get(word)
        return least is not None and self.generation >= least

    @property
    def generation(self) -> tuple[int, int]:
        """The compute capability as numbers that can be compared."""
        major, _, minor = self.capability.partition(".")
        return int(major), int(minor)


_SINCE = {
    "fp32": (0, 0),
    "fp16": (7, 0),
    "int8": (7, 2),
    "bf16": (8, 0),
    "tf32": (8, 0),
    "2:4": (8, 0),
    "fp8": (8, 9),
}
"""The compute capability from which tensor cores have a precision (CUDA C++ Programming Guide)."""


@dataclass(frozen=True)
class Target:
    """Hardware to be deployed on.

    Attributes:
        name: As in the space file; its lanes are the Ray resource ``lane:<name>``.
        lane_cores: Cores that one measurement has for itself.
        lanes: Measurements that may run beside each other.
        price_per_hour: USD for the whole machine; None where no price was given.
        machine: The hardware found behind the name.
        gpu: The GPU that models run on, which is then the one lane; None: they run on the cores.
    """

    name: str
    lane_cores: int
    lanes: int
    price_per_hour: float | None
    machine: Machine
    gpu: Gpu | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Target:
        """What ``dataclasses.asdict`` made of one, also after a way through JSON."""
        machine = {**record["machine"]}
        for name in ("flags", "cores"):
            machine[name] = tuple(machine[name])
        gpu = record.get("gpu")
        parts = {"machine": Machine(**machine), "gpu": Gpu(**gpu) if gpu else None}
        return cls(**{**record, **parts})

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The word by which a space tells targets with a GPU from those without."""
        return "cpu" if self.gpu is None else "cuda"

    @property
    def words(self) -> dict[str, int | str]:
        """What stages and sessions must know of the GPU; nothing where models run on the cores."""
        if self.gpu is None:
            return {}
        return {
            "gpu.index": self.gpu.index,
            "gpu.name": self.gpu.name,
            "gpu.capability": self.gpu.capability,
        }

    @property
    def resource(self) -> str:
        return f"lane:{self.name}"

    def lane(self, index: int) -> tuple[int, ...]:
        """The cores of lane ``index``: lanes are cut from the machine's last cores."""
        cores = self.machine.cores
        end = len(cores) - index * self.lane_cores
        return cores[max(0, end - self.lane_cores) : end]

    @property
    def preparing(self) -> tuple[int, ...]:
        """The cores for training and converting; all of them where the lanes leave none."""
        left = self.machine.cores[: max(0, len(self.machine.cores) - self.lanes * self.lane_cores)]
        return left or self.machine.cores

    @property
    def shared(self) -> bool:
        """Whether preparing and measuring take turns, because the lanes leave no core."""
        return self.lanes * self.lane_cores >= len(self.machine.cores)

    @property
    def lane_price_per_hour(self) -> float | None:
        """The share of the price that one lane is charged: its cores over the machine's.

        A GPU is charged the whole price, which is then that of a machine with the one GPU.
        """
        if self.price_per_hour is None or self.gpu is not None:
            return self.price_per_hour
        return self.price_per_hour * self.lane_cores / len(self.machine.cores)
