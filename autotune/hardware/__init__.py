"""What is here, what it can do, its lanes, and in which state it is."""

from autotune.hardware.gpus import Accelerators, accelerators
from autotune.hardware.lanes import held, lane, pin
from autotune.hardware.processor import (
    bf16_kernels,
    instruction_sets,
    machine,
    usual_lane,
    whole_machine,
)
from autotune.hardware.state import Condition, condition, steal

__all__ = [
    "Accelerators",
    "Condition",
    "accelerators",
    "bf16_kernels",
    "condition",
    "held",
    "instruction_sets",
    "lane",
    "machine",
    "pin",
    "steal",
    "usual_lane",
    "whole_machine",
]
