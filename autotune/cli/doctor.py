"""``autotune doctor``."""

from __future__ import annotations

import click
from rich.markup import escape


@click.command("doctor")
def command() -> int:
    """Say what this machine has, and which plug-ins can be used here and why the rest cannot."""
    from autotune import hardware, plugins
    from autotune.cli.terminal import out

    machine = hardware.machine()
    out.print(f"[bold]{escape(machine.cpu)}[/]")
    out.print(f"  cores: {len(machine.cores)}, memory: {machine.memory_bytes / 2**30:.1f} GiB")
    out.print(f"  instruction sets: {', '.join(machine.flags)}")
    if not hardware.bf16_kernels(machine):
        out.print("  no bf16 instructions: bf16 is not searched on this machine")
    if len(machine.cores) == 1:
        out.print("  [yellow]one core: measuring and preparing take turns[/]")
    for name in plugins.names("backends"):
        backend = plugins.load("backends", name)
        why = backend.unavailable()
        versions = ", ".join(plugins.version(library) for library in backend.libraries)
        state = f"[red]no[/]: {escape(why)}" if why else f"[green]yes[/] {versions}"
        out.print(f"backend {name}: {state} - {escape(backend.summary)}")
    for name in plugins.names("techniques"):
        out.print(f"technique {name}: {escape(plugins.load('techniques', name).summary)}")
    for name in plugins.names("samplers"):
        out.print(f"sampler {name}: {escape(plugins.load('samplers', name).summary)}")
    for name in plugins.names("metrics"):
        out.print(f"metric {name}: {escape(plugins.load('metrics', name).summary)}")
    return 0
