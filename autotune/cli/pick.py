"""``autotune pick``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command("pick")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--p50", help="Highest median latency: 2ms.")
@click.option("--p90", help="Highest 90th percentile.")
@click.option("--p99", help="Highest 99th percentile.")
@click.option("--max-accuracy-drop", help="Below the baseline at most: 1%, 1pt, '1% of baseline'.")
@click.option("--min-accuracy", help="Lowest accuracy: 0.98, 98%.")
@click.option("--limit", "limits", multiple=True, help="Any other limit: 'size <= 1MB'.")
@click.option("--minimize", help="What to minimise among those: cost, latency_p50, size, ...")
@click.option("--maximize", help="What to maximise among those: accuracy, throughput, ...")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    run: Path,
    p50: str | None,
    p90: str | None,
    p99: str | None,
    max_accuracy_drop: str | None,
    min_accuracy: str | None,
    limits: tuple[str, ...],
    minimize: str | None,
    maximize: str | None,
    as_json: bool,
) -> int:
    """Choose the configuration of RUN that meets the limits; its SLO's where none is given.

    Latencies count by the upper end of their 95 % interval; nothing slower than the baseline at
    the same batch is chosen. Exits with 3, naming the nearest miss, if nothing fits.
    """
    from autotune.api import Run
    from autotune.cli.terminal import show_pick
    from autotune.runfolder.tables import fractions
    from autotune.slo import parse, sensible

    finished = Run(run)
    data = finished.data
    metric = next(iter(data.metrics), "accuracy")
    asked = {
        "--p50": p50 and f"latency_p50 <= {p50}",
        "--p90": p90 and f"latency_p90 <= {p90}",
        "--p99": p99 and f"latency_p99 <= {p99}",
        "--max-accuracy-drop": max_accuracy_drop and f"{metric} >= baseline - {max_accuracy_drop}",
        "--min-accuracy": min_accuracy and f"{metric} >= {min_accuracy}",
        "--minimize": minimize and f"minimize {minimize}",
        "--maximize": maximize and f"maximize {maximize}",
    }
    sentences = [(text, flag) for flag, text in asked.items() if text]
    sentences += [(text, "--limit") for text in limits]
    slo = parse(sentences or [(text, "the run's slo") for text in data.slo], data.metrics)
    sensible(slo, fractions(data), dict(sentences))
    found = finished.choose(slo)
    trial = next(t for t in data.trials if t.number == found.trial)
    if as_json:
        record = {**asdict(found), "configuration": dict(trial.configuration)}
        click.echo(json.dumps(record, indent=2))
    else:
        show_pick(found, trial, data.spec.get("space", {}))
    return 0
