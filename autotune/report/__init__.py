"""A run -> one self-contained HTML file."""

from autotune.report.html import render

__all__ = ["render"]
