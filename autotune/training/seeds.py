"""The seed of every generator that a factory or a training may draw from."""

from __future__ import annotations

import random

import numpy as np


def seed_everything(seed: int) -> None:
    """Seed every generator that a factory or a training may draw from."""
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - a user's factory may use the global generator
    torch.manual_seed(seed)
