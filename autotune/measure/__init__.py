"""The clock and the statistics behind every number.

Usable alone (docs/measuring.md): ``latency`` times any callable, ``table`` shows what it found,
``compare`` times two in turn.
"""

from autotune.measure.accuracy import mcnemar, paired_difference, resolution_words, wilson
from autotune.measure.alone import Latencies, latency, table
from autotune.measure.check import tolerance, verify
from autotune.measure.compare import Comparison, Interleaved, compare, interleave
from autotune.measure.cost import cost_estimate, cost_usd_per_million
from autotune.measure.loop import LoopSettings, Timing, time_calls
from autotune.measure.memory import hold_heap, peak_rss_bytes, reset_peak, rss_bytes
from autotune.measure.reference import Watch, watch
from autotune.measure.statistics import block_bootstrap, latency_columns, quantile, upper_bound

__all__ = [
    "Comparison",
    "Interleaved",
    "Latencies",
    "LoopSettings",
    "Timing",
    "Watch",
    "block_bootstrap",
    "compare",
    "cost_estimate",
    "cost_usd_per_million",
    "hold_heap",
    "interleave",
    "latency",
    "latency_columns",
    "mcnemar",
    "paired_difference",
    "peak_rss_bytes",
    "quantile",
    "reset_peak",
    "resolution_words",
    "rss_bytes",
    "table",
    "time_calls",
    "tolerance",
    "upper_bound",
    "verify",
    "watch",
    "wilson",
]
