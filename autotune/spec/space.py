"""The ``space:`` section and what the plug-ins declare -> the space that is searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from autotune import plugins
from autotune.contracts import SHARED, Parameter, Technique
from autotune.errors import SpecError
from autotune.scenario import Kind
from autotune.space import ALWAYS, Choice, Condition, Domain, Is, Knob, Rule, Space
from autotune.spec import plugged, rules
from autotune.spec.conditions import NEVER, both, in_words, possible, settle
from autotune.spec.core import BATCHER, SECTION, SERVER, core_parameters, fitting, places
from autotune.spec.domains import domain, plain
from autotune.spec.marks import Document, Where, dotted
from autotune.spec.words import unknown_key, wrong_kind
from autotune.target import Target
from autotune.task import ModelSource


@dataclass(frozen=True)
class Built:
    """The space, the section with its defaults filled in, and what is worth saying about it."""

    space: Space
    section: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Declared:
    """A parameter that will be a knob if its condition can hold in this space."""

    name: str
    where: Where
    parameter: Parameter
    when: Condition
    given: bool


def build(
    document: Document,
    model: ModelSource,
    targets: tuple[Target, ...],
    kind: Kind = "single_stream",
) -> Built:
    """The space that the file's section spans over the declared parameters.

    Raises:
        SpecError: The section says something that no plug-in declares, or that cannot apply.
    """
    fitting(document, kind)
    present, notes = plugged.techniques(document, model)
    backends, missing = plugged.backends(document)
    declared = [
        *_core(document, targets, backends),
        *(_batcher(document) if kind == "server" else ()),
        *_shared(document),
        *(d for t in present.values() for d in _of_technique(document, t, model)),
        *(d for name in backends for d in _of_backend(document, name)),
    ]
    knobs = _knobs(document, declared, targets)
    names = {knob.name for knob in knobs}
    active = {n: settle(t.when(model), names) for n, t in present.items()}
    removing: list[Rule] = [
        rules.ThreadsFit(targets),
        *rules.devices(targets),
        *(rules.BackendThere(name, reason) for name, reason in missing.items() if name in backends),
        *(rules.backend(name, targets, model) for name in backends if name not in missing),
        *(rules.technique(n, when, targets, model) for n, when in active.items() if when != NEVER),
    ]
    notes += [f"backend {name}: {reason}" for name, reason in missing.items()]
    notes += [
        f"{name} never applies: it needs {in_words(present[name].when(model))}"
        for name, when in active.items()
        if not possible(when, knobs)
    ]
    return Built(Space(tuple(knobs), tuple(removing)), _section(knobs, backends), tuple(notes))


# ---- what is declared ----------------------------------------------------------------------------


def _core(
    document: Document, targets: tuple[Target, ...], backends: tuple[str, ...]
) -> list[Declared]:
    words = core_parameters(targets, backends)
    return [_declared(document, (SECTION,), "", word, ALWAYS) for word in words]


def _batcher(document: Document) -> list[Declared]:
    where = (SECTION, SERVER)
    _known_parameters(document, where, BATCHER)
    return [_declared(document, where, f"{SERVER}.", p, ALWAYS) for p in BATCHER]


def _shared(document: Document) -> list[Declared]:
    found: list[Declared] = []
    for section, parameters in SHARED.items():
        _known_parameters(document, (SECTION, section), parameters)
        where = (SECTION, section)
        found += [_declared(document, where, f"{section}.", p, ALWAYS) for p in parameters]
    return found


def _of_technique(document: Document, technique: Technique, model: ModelSource) -> list[Declared]:
    """Its parameters; those that its own condition reads exist wherever they are declared."""
    when = technique.when(model)
    found: list[Declared] = []
    for section, parameters in technique.parameters(model).items():
        hint = _arguments(technique, model, section)
        _known_parameters(document, (SECTION, section), parameters, hint)
        for parameter in parameters:
            own = ALWAYS if f"{section}.{parameter.name}" in when.knobs() else when
            found.append(_declared(document, (SECTION, section), f"{section}.", parameter, own))
    return found


def _arguments(technique: Technique, model: ModelSource, section: str) -> str:
    """What to do about an argument of the factory, where its arguments are words of the section."""
    more = replace(model, args={**model.args, "another argument": 0})
    if technique.parameters(more)[section] == technique.parameters(model)[section]:
        return ""
    return "; another argument of the factory: add it to model.args, as the model was built"


def _of_backend(document: Document, name: str) -> list[Declared]:
    where = (SECTION, "backend", name)
    parameters = plugins.load("backends", name).parameters()
    _known_parameters(document, where, parameters)
    active = Is("backend", (name,))
    return [_declared(document, where, f"{name}.", p, active) for p in parameters]


def _declared(
    document: Document, where: Where, prefix: str, parameter: Parameter, when: Condition
) -> Declared:
    section = document.at(where)
    return Declared(
        name=prefix + parameter.name,
        where=(*where, parameter.name),
        parameter=parameter,
        when=both(when, parameter.when),
        given=isinstance(section, dict) and parameter.name in section,
    )


def _known_parameters(
    document: Document, where: Where, parameters: Iterable[Parameter], hint: str = ""
) -> None:
    section = document.at(where)
    if section is None:
        return
    known = [parameter.name for parameter in parameters]
    if not isinstance(section, dict):
        example = f"its parameters: {', '.join(known)}" if known else "leave it empty: {}"
        raise wrong_kind(document, where, "a mapping", example)
    for key in section:
        if key not in known:
            error = unknown_key(document, (*where, key), known)
            raise SpecError(error.cause, place=error.place, remedy=error.remedy + hint)


# ---- knobs ---------------------------------------------------------------------------------------


def _knobs(document: Document, declared: list[Declared], targets: tuple[Target, ...]) -> list[Knob]:
    """The declared parameters whose condition can hold, each after what it depends on."""
    knobs = places(targets)
    never: list[Declared] = []
    for item in _ordered(declared):
        when = settle(item.when, {knob.name for knob in knobs})
        if possible(when, knobs):
            knobs.append(Knob(item.name, _domain(document, item), when))
        else:
            never.append(item)
    _no_dead_words(document, declared, never)
    return knobs


def _domain(document: Document, item: Declared) -> Domain:
    if item.name == "backend":
        return Choice(item.parameter.choices)
    return (
        domain(item.parameter, document, item.where)
        if item.given
        else Choice((item.parameter.default,))
    )


def _ordered(declared: list[Declared]) -> list[Declared]:
    """Stable, except that each comes after the declared ones that its condition reads."""
    names = {item.name for item in declared}
    done: list[Declared] = []
    left = list(declared)
    while left:
        placed = {item.name for item in done}
        ready = next((d for d in left if d.when.knobs() & names <= placed), None)
        if ready is None:
            raise ValueError(f"conditions in a circle: {[item.name for item in left]}")
        left.remove(ready)
        done.append(ready)
    return done


def _no_dead_words(document: Document, declared: list[Declared], never: list[Declared]) -> None:
    """Refuse a section or a parameter that is given and can apply nowhere in this space."""
    names = {item.name for item in never}
    for item in never:
        section = item.where[:-1]
        whole = all(d.name in names for d in declared if d.where[:-1] == section)
        where = section if whole else item.where
        parent = document.at(where[:-1])
        if not isinstance(parent, dict) or where[-1] not in parent:
            continue
        what = dotted(where[1:])
        knobs = " and ".join(f"space.{name}" for name in sorted(item.when.knobs()))
        raise document.error(
            where,
            f"'{what}' applies only where {in_words(item.when)}, which is nowhere in this space",
            f"give {knobs} a value for which it does, or remove '{what}'",
        )


def _section(knobs: list[Knob], backends: tuple[str, ...]) -> dict[str, Any]:
    """The section with every default written out."""
    section: dict[str, Any] = {}
    bodies: dict[str, dict[str, Any]] = {name: {} for name in backends}
    for knob in knobs:
        owner, _, parameter = knob.name.rpartition(".")
        if knob.name in ("target", "device"):
            continue
        if not owner:
            section[knob.name] = bodies if knob.name == "backend" else plain(knob.domain)
        elif owner in bodies:
            bodies[owner][parameter] = plain(knob.domain)
        else:
            section.setdefault(owner, {})[parameter] = plain(knob.domain)
    return section
