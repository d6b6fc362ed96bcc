"""What the terminal shows: consoles, error messages, tables of settings, the pick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autotune.errors import NothingFits, UserError
from autotune.pick import Pick
from autotune.slo import QUANTITIES
from autotune.trial import Estimate, Trial

out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def complain(error: UserError | NothingFits) -> None:
    """Say what is wrong, where, and what would be right."""
    if isinstance(error, NothingFits):
        err.print(f"[yellow]nothing fits[/]: {escape(str(error))}")
        return
    place = f"{error.place}: " if error.place else ""
    err.print(f"[red]error[/]: {escape(place)}{escape(error.cause)}")
    if error.remedy:
        err.print(f"  {escape(error.remedy)}")


def duration(seconds: float) -> str:
    """Seconds in the words people use: ``3m 07s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def counted(number: int, word: str) -> str:
    """A number of things: ``1 training``, ``12 trainings``."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def settings(configuration: Mapping[str, object]) -> str:
    """A configuration on one line, the backend first."""
    first = [str(configuration[k]) for k in ("backend", "precision") if k in configuration]
    rest = [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in configuration.items()
        if name not in ("backend", "precision")
    ]
    return " ".join([*first, *rest])


def told(configuration: Mapping[str, object], space: Mapping[str, Any]) -> dict[str, object]:
    """What tells a configuration from others: where it runs, and the knobs that are searched.

    Args:
        configuration: Its settings.
        space: The section ``space`` of the resolved space file; a knob that it lacks is told.
    """

    def searched(name: str) -> bool:
        owner, _, word = name.rpartition(".")
        bodies = (space.get(owner), space.get("backend", {}).get(owner)) if owner else (space,)
        found = [body[word] for body in bodies if isinstance(body, Mapping) and word in body]
        return not found or isinstance(found[0], list | Mapping)

    always = ("backend", "precision", "batch")
    return {k: v for k, v in configuration.items() if k in always or searched(k)}


def amount(column: str, estimate: Estimate) -> str:
    """A measured value with its unit and, where known, its interval."""
    value = _number(column, estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    low, high = _number(column, estimate.low), _number(column, estimate.high)
    return f"{value}  [dim](95 %: {low} to {high})[/]"


_FASTER = {
    "latency_p50": ("faster than the baseline at the same batch", "p50"),
    "throughput": ("the samples a second of the baseline at the same batch", "throughput"),
    "server_rate": ("the requests a second of the baseline", "under the limit on the p99"),
}


def show_pick(pick: Pick, trial: Trial, space: Mapping[str, Any]) -> None:
    """The configuration, as far as ``space`` (as for ``told``) searches it, and its evidence."""
    words = escape(settings(told(trial.configuration, space)))
    out.print(f"[bold green]pick[/] trial {pick.trial}: [bold]{words}[/]")
    if pick.speedup is not None:
        times, by = _FASTER[pick.figure]
        out.print(f"  {pick.speedup:.1f} times {times} ({by}, trial {pick.baseline})")
    for warning in pick.warnings:
        out.print(f"  [yellow]warning[/]: {escape(warning)}")
    table = Table.grid(padding=(0, 2))
    measured = trial.measurement.values if trial.measurement else {}
    for column, estimate in measured.items():
        if not column.endswith("_mean_ms") and not (column == "sparsity" and not estimate.value):
            table.add_row(f"  {column}", amount(column, estimate))
    out.print(table)
    for check in pick.checks:
        mark = "[green]met[/]" if check.met else "[red]missed[/]"
        out.print(f"  {mark} {escape(check.limit)}: {escape(check.detail)}")


_WHOLE = 1000.0
"""From here on a rate needs no decimals."""
_COUNTS = ("parameters", "parameters_read", "macs")


def _number(column: str, value: float) -> str:
    if column.endswith("_bytes"):
        return f"{value / 1e6:.2f} MB"
    if column.endswith("_ms"):
        return f"{value:.4g} ms"
    if column.endswith("_drop"):
        return f"{100 * value + 0.0:+.1f} points".replace("-0.0", "0.0").replace("+0.0", "0.0")
    if column in _COUNTS or (column.endswith("_per_s") and value >= _WHOLE):
        return f"{value:,.0f}"
    if column == "sparsity":
        return f"{value:.1%} of the weights are zero"
    if column == QUANTITIES["cost"].column:
        return f"{value:.4g} USD"
    return f"{value:.4g}"
