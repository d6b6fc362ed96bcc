"""A picked configuration turned into files that can be shipped."""

from autotune.deploy.ship import BEST, ship

__all__ = ["BEST", "ship"]
