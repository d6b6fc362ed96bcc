"""Numbers and columns in the words that a reader of the report sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from autotune import slo as slos
from autotune.runfolder import RunData
from autotune.runfolder.tables import fractions
from autotune.scenario import Scenario
from autotune.slo import Direction
from autotune.space import Configuration


@dataclass(frozen=True)
class Measure:
    """A measured column: its label, its unit, its better side.

    ``unit`` is ``fraction`` for a metric whose values all lie in [0, 1]: shown in percent; and
    ``count`` for a number of things: shown in thousands and millions.
    """

    column: str
    label: str
    unit: str
    direction: Direction


_KNOWN = (
    Measure("latency_p50_ms", "Latency p50", "ms", "min"),
    Measure("latency_p90_ms", "Latency p90", "ms", "min"),
    Measure("latency_p99_ms", "Latency p99", "ms", "min"),
    Measure("throughput_per_s", "Throughput", "/s", "max"),
    Measure("server_rate_per_s", "Server rate", "/s", "max"),
    Measure("cost_usd_per_million", "Cost", "USD per million", "min"),
    Measure("size_bytes", "Size", "bytes", "min"),
    Measure("parameters", "Parameters", "count", "min"),
    Measure("macs", "MACs per sample", "count", "min"),
    Measure("sparsity", "Zero weights", "fraction", "max"),
    Measure("memory_peak_bytes", "Peak memory", "bytes", "min"),
    Measure("device_memory_peak_bytes", "Peak memory of the GPU", "bytes", "min"),
    Measure("energy_mj_per_sample", "Energy a sample", "mJ", "min"),
    Measure("load_seconds", "Load time", "s", "min"),
    Measure("mean_batch", "Requests in a batch", "", "max"),
)


def scenario(run: RunData) -> Scenario:
    """How requests came while the run measured; the limit on a server's p99 with it."""
    kind = run.spec.get("scenario", "single_stream")
    limits = slos.parse(((sentence, "") for sentence in run.slo), run.metrics).limits
    bounds = [x.bound for x in limits if x.quantity.word == "latency_p99" and not x.relative]
    return Scenario(kind, min(bounds, default=None) if kind == "server" else None)


def measures(run: RunData) -> tuple[Measure, ...]:
    """The columns that some trial of the run measured: metrics first, then what we know."""
    rows = [t.measurement.values for t in run.trials if t.measurement is not None]
    metrics = (_metric(run, name) for name in run.metrics)
    known = (m for m in _KNOWN if m.column not in run.metrics)
    return tuple(m for m in (*metrics, *known) if any(m.column in row for row in rows))


def _metric(run: RunData, name: str) -> Measure:
    label = name.replace("_", " ").capitalize()
    unit = "fraction" if name in fractions(run) else ""
    return Measure(name, label, unit, run.metrics[name])


def number(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits, never in powers of ten where it can be read."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    if decimals > 8:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, decimals)}f}"


def amount(value: float, unit: str) -> str:
    """A value with its unit: ``0.231 ms``, ``99.2 %``, ``1.45 MB``, ``$0.0064``."""
    match unit:
        case "fraction":
            return f"{value * 100:.2f} %"
        case "bytes":
            return _bytes(value)
        case "count":
            return _count(value)
        case "USD per million":
            return f"${number(value)}"
        case _:
            return f"{number(value)} {unit}".rstrip()


def _bytes(value: float) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f} B"


def _count(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f}"


def difference(change: float, measure: Measure) -> str:
    """``0.20 points less accuracy``; ``equal accuracy``."""
    name = measure.column.replace("_", " ")
    if abs(change) < 5e-6:
        return f"equal {name}"
    size = f"{abs(change) * 100:.2f} points" if measure.unit == "fraction" else number(abs(change))
    return f"{size} {'more' if change > 0 else 'less'} {name}"


def change(share: float | None) -> str:
    """A change as a share of what was before: ``−74 %``, ``+0.4 %``, ``same``; a dot for None."""
    if share is None:
        return "·"
    if abs(share) < 5e-4:
        return "same"
    percent = abs(share) * 100
    return f"{'−' if share < 0 else '+'}{percent:.{0 if percent >= 10 else 1}f} %"


def shift(difference: float | None, measure: Measure | None) -> str:
    """A change of a measure in its own unit: ``−0.40 pt``, ``same``; a dot for None."""
    if difference is None or measure is None:
        return "·"
    if abs(difference) < 5e-6:
        return "same"
    points = measure.unit == "fraction"
    size = f"{abs(difference) * 100:.2f} pt" if points else number(abs(difference))
    return f"{'−' if difference < 0 else '+'}{size}"


def duration(seconds: float) -> str:
    """``3 min 42 s``, ``12.4 s``, ``0.31 s``."""
    if seconds < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def grouped(configuration: Configuration) -> Mapping[str, Mapping[str, str]]:
    """The active knobs by section: ``{"": {"batch": "1"}, "prune": {"ratio": "0.3"}}``."""
    groups: dict[str, dict[str, str]] = {"": {}}
    for name, value in configuration.items():
        section, _, knob = name.rpartition(".")
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        groups.setdefault(section, {})[knob] = shown
    return groups
