"""Every parameter that a space file can give: who owns it, and what this space makes of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from autotune import plugins
from autotune.contracts import SHARED, Parameter
from autotune.space import ALWAYS, AllOf, Choice, Condition, Is, Knob, Not, Scalar
from autotune.spec.conditions import in_words
from autotune.spec.core import BATCHER, SERVER, core_parameters
from autotune.spec.values import Spec

State = Literal["searched", "pinned", "default", "absent"]


@dataclass(frozen=True)
class Entry:
    """One parameter: what it does, its values here, what it may be, and where it exists.

    Attributes:
        name: The full name of its knob, ``prune.ratio``.
        does: One sentence.
        state: Searched; pinned to one value; one value that is its default; or not in the space.
        values: In words; "" where it is absent.
        default: The value where the file is silent.
        legal: All that the file may say, in words.
        where: In which configurations it exists, on top of its section's condition; "": in all.
    """

    name: str
    does: str
    state: State
    values: str
    default: Scalar
    legal: str
    where: str


@dataclass(frozen=True)
class Section:
    """A section of the space file and its owner.

    Attributes:
        name: Its word in the file; "" for the words at the top of the space.
        kind: Shared words, or the kind of plug-in that owns them.
        owner: The plug-in's name; "" for shared words.
        summary: What the plug-in does.
        where: What all its knobs have in common; "" where they have nothing.
        missing: Why nothing of it can be had here; "" where it can.
        entries: Its parameters.
    """

    name: str
    kind: Literal["shared", "technique", "backend"]
    owner: str
    summary: str
    where: str
    missing: str
    entries: tuple[Entry, ...]


def catalog(spec: Spec) -> tuple[Section, ...]:
    """All that could be searched, used or not: shared words, techniques in order, backends."""
    knobs = {knob.name: knob for knob in spec.space.knobs}
    techniques = {name: plugins.load("techniques", name) for name in plugins.names("techniques")}
    frozen = "" if spec.model.trainable else "it needs a network that can be trained"
    sections = [_section("", "shared", "", "", _core(spec), knobs)]
    sections += [
        _section(word, "shared", "", _about(word), parameters, knobs)
        for word, parameters in SHARED.items()
    ]
    alone = "" if spec.scenario.kind == "server" else "it needs scenario: server"
    about = "the dynamic batcher in front of the model"
    sections.append(_section(SERVER, "shared", "", about, BATCHER, knobs, alone))
    for owner, technique in sorted(techniques.items(), key=lambda item: (item[1].position, item)):
        for word, parameters in technique.parameters(spec.model).items():
            about = technique.summary
            sections.append(_section(word, "technique", owner, about, parameters, knobs, frozen))
    for owner in plugins.names("backends"):
        backend = plugins.load("backends", owner)
        missing, own = backend.unavailable() or "", backend.parameters()
        sections.append(_section(owner, "backend", owner, backend.summary, own, knobs, missing))
    return tuple(sections)


def _core(spec: Spec) -> tuple[Parameter, ...]:
    names = tuple(target.name for target in spec.targets)
    target = Parameter("target", str, names[0], choices=names, help="the hardware it runs on")
    parameters = core_parameters(spec.targets, plugins.names("backends"))
    return (target, *parameters) if len(names) > 1 else parameters


def _about(word: str) -> str:
    abouts = {"ptq": "post-training quantization", "weights": "weight-only quantization"}
    return abouts.get(word, "")


def _section(
    word: str,
    kind: Literal["shared", "technique", "backend"],
    owner: str,
    summary: str,
    parameters: Iterable[Parameter],
    knobs: Mapping[str, Knob],
    missing: str = "",
) -> Section:
    named = {f"{word}.{p.name}" if word else p.name: p for p in parameters}
    known = {Is("backend", (word,))}  # goes without saying in the backend's own section
    parts = {name: _parts(_when(knobs.get(name), p)) - known for name, p in named.items()}
    common = frozenset[Condition].intersection(*parts.values()) if parts else frozenset()
    entries = tuple(
        _entry(name, p, knobs.get(name), _words(parts[name] - common, parts[name], knobs))
        for name, p in named.items()
    )
    return Section(word, kind, owner, summary, _words(common, common, knobs), missing, entries)


def _entry(name: str, parameter: Parameter, knob: Knob | None, where: str) -> Entry:
    return Entry(
        name=name,
        does=parameter.help,
        state=_state(knob, parameter),
        values="" if knob is None else _values(knob),
        default=parameter.default,
        legal=_legal(parameter),
        where=where,
    )


def _state(knob: Knob | None, parameter: Parameter) -> State:
    if knob is None:
        return "absent"
    grid = knob.domain.grid()
    if grid is None or len(grid) > 1:
        return "searched"
    return "default" if grid[0] == parameter.default else "pinned"


# ---- conditions ----------------------------------------------------------------------------------


def _when(knob: Knob | None, parameter: Parameter) -> Condition:
    return parameter.when if knob is None else knob.when


def _parts(condition: Condition) -> frozenset[Condition]:
    """What must hold, one part a knob where that can be: its values are those of all parts."""
    values: dict[str, tuple[Scalar, ...]] = {}
    rest: set[Condition] = set()
    for part in _flat(condition):
        if isinstance(part, Is):
            before = values.get(part.knob, part.values)
            values[part.knob] = tuple(value for value in part.values if value in before)
        else:
            rest.add(part)
    return frozenset({*rest, *(Is(knob, found) for knob, found in values.items())} - {ALWAYS})


def _flat(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, AllOf):
        for inner in condition.conditions:
            yield from _flat(inner)
    else:
        yield condition


def _words(
    parts: Iterable[Condition], whole: Collection[Condition], knobs: Mapping[str, Knob]
) -> str:
    return " and ".join(sorted(_in_words(part, whole, knobs) for part in parts))


def _in_words(part: Condition, whole: Collection[Condition], knobs: Mapping[str, Knob]) -> str:
    """A part of a condition; that a knob is not something holds too where it does not exist."""
    words = in_words(part)
    if isinstance(part, Not) and isinstance(part.condition, Is):
        knob = knobs.get(part.condition.knob)
        if knob is not None and not _parts(knob.when) <= set(whole):
            return f"{words} (or not there)"
    return words


# ---- values --------------------------------------------------------------------------------------


def _values(knob: Knob) -> str:
    if isinstance(knob.domain, Choice):
        return ", ".join(said(value) for value in knob.domain.values)
    step = f" step {knob.domain.step}" if knob.domain.step else " log" if knob.domain.log else ""
    return f"{knob.domain.low} to {knob.domain.high}{step}"


def _legal(parameter: Parameter) -> str:
    if parameter.choices or parameter.kind is bool:
        return ", ".join(said(value) for value in parameter.choices or (False, True))
    kind = {int: "a whole number", float: "a number"}.get(parameter.kind, "a word")
    low, high = parameter.low, parameter.high
    if low is not None and high is not None:
        return f"{kind} from {low:g} to {high:g}"
    bounds = [f"{word} {b:g}" for word, b in (("from", low), ("up to", high)) if b is not None]
    return " ".join([kind, *bounds])


def said(value: Scalar) -> str:
    """A value as the space file writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
