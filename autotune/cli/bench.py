"""``autotune bench``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autotune.cli.options import sizes

if TYPE_CHECKING:
    from autotune.deploy.bench import Answer
    from autotune.scenario import Kind

_KINDS: Mapping[str, Kind] = {"single": "single_stream", "offline": "offline", "server": "server"}


@click.command("bench")
@click.argument("artifact")
@click.option("--trial", type=int, help="Of a run folder: this trial.  [default: the pick]")
@click.option("--store", type=click.Path(path_type=Path), help="Artifacts.  [default: RUN/store]")
@click.option("--backend", help="What runs an ONNX file.  [default: onnxruntime]")
@click.option(
    "--scenario",
    type=click.Choice(list(_KINDS)),
    default="single",
    help="One request at a time, as many as go through, or at random moments.",
)
@click.option("--slo", help="The limit that the server's rate is to hold: p99=5ms.")
@click.option("--batch", type=click.IntRange(min=1), help="Samples in a request.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the runtime.")
@click.option("--max-batch", type=click.IntRange(min=1), help="The server's largest batch.")
@click.option("--max-queue-delay", help="How long a request may wait for company: 1ms.")
@click.option("--seconds", type=float, default=10.0, help="Time to measure.  [default: 10]")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    help="Samples: an .npy or .npz file, or a folder of .npy files named as the inputs.",
)
@click.option(
    "--dim", "dims", multiple=True, help="NAME=SIZE of an axis that the model leaves open."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    artifact: str,
    trial: int | None,
    store: Path | None,
    backend: str | None,
    scenario: str,
    slo: str | None,
    batch: int | None,
    threads: int | None,
    max_batch: int | None,
    max_queue_delay: str | None,
    seconds: float,
    data: Path | None,
    dims: tuple[str, ...],
    as_json: bool,
) -> int:
    """Measure one model as a run measures its trials, in a process of its own on its own cores.

    ARTIFACT is an ONNX file, a run folder (its pick, or RUN:12), or a folder like RUN/best. Exits
    with 3 if a server holds its limit at no rate.
    """
    from autotune.deploy.bench import Asked, bench
    from autotune.scenario import Scenario

    delay = None if max_queue_delay is None else _ms(max_queue_delay, "--max-queue-delay")
    limit = None if slo is None else _limit(slo)
    asked = Asked(
        scenario=Scenario(_KINDS[scenario], limit),
        backend=backend,
        batch=batch,
        threads=threads,
        max_batch=max_batch,
        max_queue_delay_ms=delay,
        seconds=seconds,
        data=data,
        sizes=sizes(dims),
        trial=trial,
        store=store,
    )
    answer = bench(artifact, asked, _waiting)
    if as_json:
        click.echo(json.dumps(_plain(answer), indent=2))
    else:
        _show(answer)
    return 0 if answer.holds else 3


def _waiting(line: str) -> None:
    if line:
        click.echo(line.partition(";")[0], err=True)  # of a run's time budget it says nothing here


def _limit(text: str) -> float:
    """The milliseconds of ``p99=5ms``."""
    word, equals, amount = text.replace("<=", "=").partition("=")
    if not equals or word.strip() not in ("p99", "latency_p99"):
        raise click.UsageError(f"--slo {text}: write --slo p99=5ms")
    return _ms(amount, "--slo")


def _ms(text: str, place: str) -> float:
    """A time in milliseconds: ``1ms``, ``500us``, or a plain number of them."""
    from autotune.slo import limit

    amount = text.strip()
    plain = amount.replace(".", "", 1).isdecimal()
    return limit(f"latency_p99 <= {amount}{'ms' * plain}", {}, place).bound


def _plain(answer: Answer) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(answer)


def _show(answer: Answer) -> None:
    from rich.markup import escape
    from rich.table import Table

    from autotune.cli.terminal import amount, err, out, settings

    knobs = {} if answer.by_default else answer.settings  # which the JSON tells all the same
    words = settings({"backend": answer.backend, **knobs, "threads": answer.threads})
    out.print(f"[bold]{escape(answer.model)}[/]: {escape(words)}")
    cores = ", ".join(str(core) for core in answer.cores)
    where = f"core {cores} of {answer.cpu}" + (f" and {answer.gpu}" if answer.gpu else "")
    out.print(f"  {escape(_scenario(answer))}; {escape(where)}")
    out.print(f"  samples: {escape(answer.data)}")
    table = Table.grid(padding=(0, 2))
    for column, estimate in answer.columns.items():
        table.add_row(f"  {column}", amount(column, estimate))
    out.print(table)
    reason = answer.facts.get("server", {}).get("reason", "")
    if reason and reason not in answer.warnings:
        out.print(f"  {escape(reason)}")
    if answer.facts.get("noisy"):
        err.print("  [yellow]warning[/]: something else ran on the lane meanwhile")
    for warning in answer.warnings:
        err.print(f"  [yellow]warning[/]: {escape(warning)}")


def _scenario(answer: Answer) -> str:
    load = answer.scenario
    match load["kind"]:
        case "server":
            return (
                f"server: p99 <= {load['p99_ms']:g} ms, batches of up to {load['max_batch']}, "
                f"waiting at most {load['max_queue_delay_ms']:g} ms"
            )
        case "offline":
            return f"offline, batch {load['batch']}"
        case _:
            return f"one request at a time, batch {load['batch']}"
