"""The JSON schema of the space file, for editors: the fixed part and what plug-ins declare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from autotune import plugins
from autotune.contracts import PRECISIONS, SHARED, Parameter
from autotune.spec.core import BATCHER, SERVER
from autotune.spec.model import File
from autotune.task import CodeRef, ModelSource

_KINDS: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_ANY = ModelSource(factory=CodeRef("", "build_model"))
_OTHER = replace(_ANY, args={"argument": 0})
"""A model whose factory has an argument: where that shows, the user's own words are keys."""


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a space file on this installation."""
    document = File.model_json_schema()
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    document["title"] = "autotune space file"
    document["properties"]["space"] = {**_space(), "title": "Space"}
    return document


def _space() -> dict[str, Any]:
    backends = {
        name: {"anyOf": [_section(plugins.load("backends", name).parameters()), {"type": "null"}]}
        for name in plugins.names("backends")
    }
    properties: dict[str, Any] = {
        "batch": _domain(Parameter("batch", int, 1, low=1)),
        "threads": _domain(Parameter("threads", int, 1, low=1)),
        "precision": _domain(Parameter("precision", str, "fp32", choices=PRECISIONS)),
        "backend": {
            "anyOf": [
                {"type": "object", "properties": backends, "additionalProperties": False},
                {"type": "array", "items": {"enum": list(backends)}, "minItems": 1},
                {"enum": list(backends)},
            ]
        },
        **{section: _section(parameters) for section, parameters in SHARED.items()},
        SERVER: _section(BATCHER),
    }
    for name in plugins.names("techniques"):
        technique = plugins.load("techniques", name)
        others = technique.parameters(_OTHER)
        for section, parameters in technique.parameters(_ANY).items():
            properties[section] = _section(parameters, more=len(others[section]) > len(parameters))
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _section(parameters: Iterable[Parameter], *, more: bool = False) -> dict[str, Any]:
    """A section; with ``more`` it takes other words, too, such as those of the user's factory."""
    return {
        "type": ["object", "null"],
        "properties": {parameter.name: _domain(parameter) for parameter in parameters},
        "additionalProperties": more,
    }


def _domain(parameter: Parameter) -> dict[str, Any]:
    value: dict[str, Any] = {"type": _KINDS[parameter.kind]}
    if parameter.choices:
        value = {"enum": list(parameter.choices)}
    bounds = {"minimum": parameter.low, "maximum": parameter.high}
    value |= {key: bound for key, bound in bounds.items() if bound is not None}
    forms = [value, {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}]
    if parameter.kind in (int, float) and not parameter.choices:
        ends = {"low": value, "high": value, "step": value, "log": {"type": "boolean"}}
        required = {"required": ["low", "high"], "additionalProperties": False}
        forms.append({"type": "object", "properties": ends, **required})
    about = {"description": parameter.help} if parameter.help else {}
    return {"anyOf": forms, "default": parameter.default, **about}
