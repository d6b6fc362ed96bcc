"""``autotune doctor``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

if TYPE_CHECKING:
    from autotune.engine.doctor import Finding, Here, Plugin
    from autotune.engine.noise import Noise
    from autotune.engine.probing import Probe


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Only look: time no noise, run no backend.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON object.")
def command(*, quick: bool, as_json: bool) -> int:
    """Say what this machine and this installation can do, and whether its clock can be trusted.

    The noise is timed for 2 s. What each backend really runs is tried with a tiny network; that is
    given up after 35 s.
    """
    from autotune.cli.terminal import err, out
    from autotune.engine.doctor import examine

    if as_json:
        click.echo(json.dumps(_record(examine(quick=quick)), indent=2))
        return 0
    with err.status("", refresh_per_second=2) as status:  # seldom: it must not be the noise
        for finding in examine(quick=quick, tell=status.update):
            for line in _lines(finding):
                out.print(line)
    return 0


def _record(findings: Iterable[Finding]) -> dict[str, Any]:
    """The findings by what they are about."""
    from autotune.engine import doctor, noise, probing

    found: dict[str, Any] = {"plugins": [], "precisions": [], "missed": []}
    for one in findings:
        match one:
            case doctor.Here():
                found["machine"] = asdict(one)
            case noise.Noise():
                told = {"spread": one.spread, "warnings": one.warnings()}
                found["noise"] = {**asdict(one), **told}
            case doctor.Plugin():
                found["plugins"].append(asdict(one))
            case probing.Probe():
                found["precisions"].append(asdict(one))
            case doctor.Missed():
                found["missed"].append(asdict(one))
    return found


def _lines(finding: Finding) -> list[str]:
    """What the terminal shows of a finding."""
    from autotune.engine import doctor, noise, probing

    match finding:
        case doctor.Here():
            return _here(finding)
        case noise.Noise():
            return _noise(finding)
        case doctor.Plugin():
            return [_plugin(finding)]
        case probing.Probe():
            return [_probe(finding)]
        case doctor.Missed():
            return [f"[yellow]{finding.part} not found out[/]: {escape(finding.reason)}"]


def _here(here: Here) -> list[str]:
    machine, state = here.machine, here.condition
    there = [word for word, has in here.instruction_sets.items() if has]
    lacks = [word for word, has in here.instruction_sets.items() if not has]
    turns = ": measuring and preparing take turns" if here.shared else ""
    lines = [
        f"[bold]{escape(machine.cpu)}[/]",
        f"  cores: {len(machine.cores)}, memory: {machine.memory_bytes / 2**30:.1f} GiB",
        f"  a lane has {_cores(here.lane)}, preparing {_cores(here.preparing)}{turns}",
        f"  instruction sets: {', '.join(there) or 'none'}; not: {', '.join(lacks) or 'none'}",
    ]
    lines += [
        f"  GPU {g.index}: {escape(g.name)}, {g.memory_bytes / 2**30:.1f} GiB, compute capability "
        f"{g.capability}, driver {g.driver}"
        for g in here.gpus
    ]
    if not here.gpus:
        lines.append(f"  accelerators: none ({escape(here.no_gpu)})")
    governors = ", ".join(state.governors) or "not told"
    load = "not told" if state.load is None else f"{state.load:.2f}"
    lines.append(
        f"  frequency governor: {governors}; load of the last minute: {load}; "
        f"stolen by the host since the start: {_share(state.steal)}"
    )
    return lines


def _noise(noise: Noise) -> list[str]:
    lines = [
        f"  noise on {_cores(noise.cores)}: the same work took {noise.p50_ms:.3f} ms at the median "
        f"and {noise.spread:.2f} times that at the p95; waited for a core: {_share(noise.waited)}, "
        f"stolen by the host: {_share(noise.steal)}"
    ]
    if noise.warnings():
        told = "; ".join(noise.warnings())
        lines.append(f"  [yellow]too noisy to trust figures measured now[/]: {told}")
    return lines


def _plugin(plugin: Plugin) -> str:
    kind = plugin.kind.removesuffix("s")
    if plugin.unavailable:
        return f"{kind} {plugin.name}: [red]no[/]: {escape(plugin.unavailable)}"
    versions = f"[green]yes[/] {', '.join(plugin.versions)} - " if plugin.versions else ""
    return f"{kind} {plugin.name}: {versions}{escape(plugin.summary)}"


def _probe(probe: Probe) -> str:
    head = f"  {probe.backend} {probe.precision}: "
    if probe.verdict == "runs":
        ran = ", ".join(f"{count} {word}" for word, count in probe.kernels.items() if count)
        return f"{head}[green]runs[/] ({ran})"
    style = {"rejected": "dim", "not tried": "yellow"}.get(probe.verdict, "red")
    return f"{head}[{style}]{probe.verdict}[/]: {escape(probe.reason)}"


def _cores(cores: tuple[int, ...]) -> str:
    numbers = ", ".join(str(core) for core in cores)
    return f"core {numbers}" if len(cores) == 1 else f"cores {numbers}"


def _share(share: float | None) -> str:
    return "not told" if share is None else f"{share:.1%}"
