"""Pareto dominance and hypervolume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def non_dominated(values: Floats, maximise: Sequence[bool]) -> NDArray[np.bool_]:
    """Which rows no other row dominates.

    A row dominates another where it is at least as good everywhere and better somewhere; equal rows
    do not dominate each other, so all of them stay.

    Args:
        values: Finite objective values, shape (n, m).
        maximise: For each of the m objectives, whether more is better.

    Returns:
        A mask of shape (n,).

    Raises:
        ValueError: A value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("dominance needs finite values")
    if len(values) == 0:
        return np.zeros(0, dtype=bool)
    from moocore import is_nondominated

    mask: NDArray[np.bool_] = is_nondominated(
        values, maximise=np.asarray(maximise, dtype=bool), keep_weakly=True
    )
    return mask


def hypervolume(values: Floats, maximise: Sequence[bool], reference: Floats) -> float:
    """The volume between ``values`` (n, m) and a ``reference`` (m,) that is worse than they are.

    A row that is not better than the reference in every objective adds nothing.

    Raises:
        ValueError: A value is not finite.
    """
    if not (np.isfinite(values).all() and np.isfinite(reference).all()):
        raise ValueError("a hypervolume needs finite values")
    from moocore import hypervolume as volume

    return float(volume(values, ref=reference, maximise=np.asarray(maximise, dtype=bool)))
