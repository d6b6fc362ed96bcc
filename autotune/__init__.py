"""autotune: the Pareto front of accuracy against latency and cost of a trained network.

>>> import autotune
>>> run = autotune.run("search_spaces/digits/space.yaml")  # doctest: +SKIP
>>> run.pick("latency_p99 <= 2ms", "accuracy >= baseline - 1pt")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autotune.version import __version__

if TYPE_CHECKING:
    from autotune.api import Run, load, run
    from autotune.task import Data, Lesson

__all__ = ["Data", "Lesson", "Run", "__version__", "load", "run"]


def __getattr__(name: str) -> Any:
    """The public names, imported when first used, so that ``import autotune`` stays light."""
    if name in ("Data", "Lesson"):
        from autotune import task

        return getattr(task, name)
    if name in ("Run", "load", "run"):
        from autotune import api

        return getattr(api, name)
    raise AttributeError(f"module 'autotune' has no attribute {name!r}")
