"""pydantic's errors turned into sentences with a place and a remedy."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from autotune.errors import SpecError
from autotune.spec.marks import Document, Where
from autotune.spec.model import File
from autotune.spec.words import EXPECTED, shown, unknown, unknown_key, wrong_kind

_KINDS = {
    "string_type": EXPECTED[str],
    "int_type": EXPECTED[int],
    "int_from_float": EXPECTED[int],
    "float_type": EXPECTED[float],
    "bool_type": EXPECTED[bool],
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than": ("less than", "lt"),
}


def validate(document: Document) -> File:
    """The fixed part of the file.

    Raises:
        SpecError: The first thing in the file, from its top, that it cannot mean.
    """
    try:
        return File.model_validate(document.data)
    except ValidationError as error:
        faults = [translate(document, details) for details in error.errors()]
        raise min(faults, key=_line) from None


def translate(document: Document, details: ErrorDetails) -> SpecError:
    """One of pydantic's errors as one of ours."""
    kind, where = details["type"], _real(document, details["loc"])
    context: dict[str, Any] = details.get("ctx", {})
    if kind == "spec":
        return document.error(where, context["cause"], context["remedy"])
    if kind == "extra_forbidden":
        return unknown_key(document, where, _field(where)[0].model_fields)
    example = _example(where)
    if kind == "missing":
        return document.error(where, f"'{where[-1]}' is missing", example)
    if kind in _KINDS:
        return wrong_kind(document, where, _KINDS[kind], example)
    if kind == "literal_error":
        return _not_among(document, where)
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        given = shown(details["input"])
        return document.error(where, f"must be {words} {context[key]}, not {given}", example)
    if kind == "too_short":
        return document.error(where, "is empty", f"{example}, or leave '{where[-1]}' out")
    return document.error(where, details["msg"], example)


def _not_among(document: Document, where: Where) -> SpecError:
    value = document.at(where)
    if not isinstance(value, str):
        return wrong_kind(document, where, EXPECTED[str], _example(where))
    info = _field(where)[2]
    known = _literals(info.annotation) if info else []
    what = "direction" if known == ["min", "max"] else str(where[-1])
    return unknown(document, where, what, value, known)


def _real(document: Document, loc: tuple[str | int, ...]) -> Where:
    """The location without the parts that are not in the file (``[key]``)."""
    return loc[:-1] if loc and loc[-1] == "[key]" else loc


def _line(error: SpecError) -> int:
    number = error.place.split(": ")[0].rpartition(":")[2]
    return int(number) if number.isdigit() else 0


def _field(where: Where) -> tuple[type[BaseModel], str, FieldInfo | None]:
    """The model in which ``where`` ends, and the nearest field on the way with its name."""
    model: type[BaseModel] = File
    name, info = "", None
    parts = iter(where)
    for part in parts:
        found = model.model_fields.get(str(part))
        if found is None:
            break
        name, info = str(part), found
        inner = _model_in(found.annotation)
        if inner is None:
            break
        model = inner
        if typing.get_origin(found.annotation) is dict:
            next(parts, None)  # the mapping's key: the user's own word
    return model, name, info


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in typing.get_args(annotation) if (m := _model_in(a))), None)


def _literals(annotation: Any) -> list[str]:
    arguments = typing.get_args(annotation)
    if arguments and all(isinstance(a, str) for a in arguments):
        return list(arguments)
    return next((words for a in arguments if (words := _literals(a))), [])


def _example(where: Where) -> str:
    _, name, info = _field(where)
    assert info is not None, f"no field at {where}"
    assert info.examples, f"field {name} has no example"
    return f"for example {name}: {info.examples[0]}"
