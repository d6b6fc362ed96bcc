"""Which plug-ins a space file brings in: the techniques it has a section of, and its backends."""

from __future__ import annotations

from autotune import plugins
from autotune.contracts import Technique
from autotune.spec.core import CORE, SECTION
from autotune.spec.marks import Document, Where
from autotune.spec.words import EXPECTED, unknown, unknown_key, wrong_kind
from autotune.task import ModelSource


def techniques(document: Document, model: ModelSource) -> tuple[dict[str, Technique], list[str]]:
    """The techniques of which a section is given, in the order in which they run."""
    loaded = {name: plugins.load("techniques", name) for name in plugins.names("techniques")}
    known = [*CORE, *(section for t in loaded.values() for section in t.sections)]
    given = document.at((SECTION,))
    for key in given:
        if key not in known:
            raise unknown_key(document, (SECTION, key), known)
    present = {n: t for n, t in loaded.items() if any(s in given for s in t.sections)}
    if model.trainable:
        ordered = sorted(present.items(), key=lambda item: (item[1].position, item[0]))
        return dict(ordered), []
    for technique in present.values():
        section = next(s for s in technique.sections if s in given)
        raise document.error(
            (SECTION, section),
            f"'{section}' needs a network that can be trained, and an ONNX model is not one",
            "remove it, or give the model as factory: task.py:build_model",
        )
    return {}, [f"an ONNX model: {', '.join(loaded)} are absent, they need a trainable network"]


def backends(document: Document) -> tuple[tuple[str, ...], dict[str, str]]:
    """The backends of the choice, and why those that cannot be used here cannot.

    Where the file is silent the choice is every backend that can be used here.
    """
    where = (SECTION, "backend")
    silent = "backend" not in document.at((SECTION,))
    names = list(plugins.names("backends")) if silent else _named(document, where)
    reasons = {name: plugins.load("backends", name).unavailable() for name in names}
    missing = {name: reason for name, reason in reasons.items() if reason}
    if len(missing) == len(names):
        why = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        cause = f"no backend of this space can be used here ({why})"
        others = ", ".join(name for name in plugins.names("backends") if name not in names)
        raise document.error(where, cause, f"add another: {others}" if others else "install one")
    return tuple(name for name in names if not (silent and name in missing)), missing


def _named(document: Document, where: Where) -> list[str]:
    """The backends that the file names: one word, a list, or a mapping with their knobs."""
    given, known = document.at(where), plugins.names("backends")
    example = f"known: {', '.join(known)}"
    if isinstance(given, dict):
        places: list[Where] = [(*where, name) for name in given]
        for place in places:
            if place[-1] not in known:
                raise unknown(document, place, "backend", str(place[-1]), known)
    else:
        listed = isinstance(given, list)
        places = [(*where, index) for index in range(len(given))] if listed else [where]
        for place in places:
            word = document.at(place)
            if not isinstance(word, str):
                raise wrong_kind(document, place, EXPECTED[str], example)
            if word not in known:
                raise unknown(document, place, "backend", word, known)
    names = list(given) if isinstance(given, dict | list) else [given]
    if not names:
        raise document.error(where, "no backend is named", example)
    for index, name in enumerate(names):
        if name in names[:index]:
            raise document.error(places[index], f"'{name}' is named twice", "keep one")
    return names
