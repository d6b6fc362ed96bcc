"""What a space searches, section by section: values, what each knob does, who owns it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from autotune.spec import Entry, Section, Spec, catalog

_NAMES, _VALUES = 20, 32
"""The widest that names and values get before they are folded."""


def show(spec: Spec, console: Console, *, everything: bool) -> None:
    """Print what is searched and pinned; with ``everything`` also what is left as it is by default.

    A section that is not in use is shown with ``everything`` alone, and how to use it.
    """
    sections = catalog(spec)
    shown = [(s, _shown(s.entries, everything=everything)) for s in sections]
    used = [(s, entries) for s, entries in shown if entries and _used(s)]
    columns = _widths([entries for _, entries in used])
    for section, entries in used:
        _head(section, console)
        _table(entries, columns, console, everything=everything)
    idle = [s for s in sections if not _used(s)]
    if everything:
        for section in idle:
            _idle(section, columns, console)
    else:
        _rest(sections, idle, console)
    console.print()


def plain(spec: Spec) -> list[Mapping[str, Any]]:
    """The same as plain data, everything included: one object a parameter."""
    return [
        {
            "name": entry.name,
            "owner": f"{section.kind} {section.owner}".strip(),
            "state": entry.state,
            "values": entry.values,
            "default": entry.default,
            "legal": entry.legal,
            "where": " and ".join(part for part in (section.where, entry.where) if part),
            "does": entry.does,
        }
        for section in catalog(spec)
        for entry in section.entries
    ]


def _used(section: Section) -> bool:
    return any(entry.state != "absent" for entry in section.entries)


def _shown(entries: Iterable[Entry], *, everything: bool) -> list[Entry]:
    return [e for e in entries if everything or e.state in ("searched", "pinned")]


def _widths(tables: Sequence[Sequence[Entry]]) -> tuple[int, int]:
    entries = [entry for table in tables for entry in table]
    names = max((len(_word(e)) for e in entries), default=0)
    values = max((len(_values(e)) for e in entries), default=0)
    return min(names, _NAMES), min(values, _VALUES)


def _head(section: Section, console: Console) -> None:
    owner = f"{section.kind} {section.owner}" if section.kind == "technique" else section.kind
    parts = [": ".join(part for part in (owner, section.summary) if part)]
    parts += [f"where {section.where}"] if section.where else []
    title = f"[bold]{escape(section.name or 'space')}[/]  [dim]{escape('; '.join(parts))}[/]"
    console.print(Padding(title, (1, 0, 0, 0)), soft_wrap=False)


def _table(
    entries: Sequence[Entry], columns: tuple[int, int], console: Console, *, everything: bool
) -> None:
    """One line a parameter; with ``everything`` also what else the space file may say of it."""
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for width in columns:
        table.add_column(width=width, overflow="fold")
    table.add_column(ratio=1)
    for entry in entries:
        values = escape(_values(entry))
        told = escape(entry.does)
        told += f" [dim](where {escape(entry.where)})[/]" if entry.where else ""
        if everything and set(entry.legal.split(", ")) != set(entry.values.split(", ")):
            told += f" [dim]\\[{escape(entry.legal)}][/]"
        style = "cyan" if entry.state == "searched" else ""
        table.add_row(_word(entry), f"[{style}]{values}[/]" if style else values, told)
    console.print(Padding(table, (0, 0, 0, 2)))


def _idle(section: Section, columns: tuple[int, int], console: Console) -> None:
    """A section that the space does not have: what would bring it in."""
    _head(section, console)
    why = section.missing or _remedy(section)
    console.print(Padding(f"not in use: {escape(why)}", (0, 0, 0, 2)), soft_wrap=False)
    if section.entries:
        _table(section.entries, columns, console, everything=True)


def _remedy(section: Section) -> str:
    if section.kind == "backend":
        return f"name {section.name} under space.backend"
    if section.kind == "shared":
        return "give a value for which it exists"
    return f"add space.{section.name}"


def _rest(sections: Sequence[Section], idle: Sequence[Section], console: Console) -> None:
    kept = sum(e.state == "default" for s in sections for e in s.entries)
    names = ", ".join(s.name for s in idle if not s.missing)
    parts = [f"{kept} more at their defaults"] if kept else []
    parts += [f"not in use: {names}"] if names else []
    if parts:
        told = escape("; ".join(parts))
        console.print(f"\n[dim]{told} (`autotune validate --all` lists them)[/]")


def _word(entry: Entry) -> str:
    return entry.name.rpartition(".")[2]


def _values(entry: Entry) -> str:
    """What it is here; a default that could be searched is marked as one."""
    if entry.state == "default":
        return f"{entry.values} (default)"
    return entry.values or "·"
