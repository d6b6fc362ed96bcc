"""Read YAML into plain data that remembers where every value stands.

The reader differs from PyYAML's safe one where YAML 1.1 surprises: ``3e-3`` is a number, ``1:30``
a word, no tag makes an object, a key may be given once, and ``off`` remembers that it was written
so. Nothing of the file is ever run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autotune.errors import SpecError
from autotune.spec.marks import Document, Where

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 20

_BOOLEAN = r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"
_DIGITS = "-+.0123456789"
_RESOLVERS = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", _BOOLEAN, "tTfFyYnNoO"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", _DIGITS),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", _DIGITS),
)
_TAG = "tag:yaml.org,2002:"
_PLAIN = {_TAG + kind for kind in ("map", "seq", "str", "null", "bool", "int", "float")}


class _Reader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way


class _Writer(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way

    def ignore_aliases(self, data: object) -> bool:
        return True


for _kind, _pattern, _first in _RESOLVERS:
    for _class in (_Reader, _Writer):
        _heads = [*_first, ""] if _kind == "null" else list(_first)
        _class.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), _heads)


def read(path: Path) -> Document:
    """The document in ``path``.

    Raises:
        SpecError: It cannot be read, or is not one plain YAML document.
    """
    return parse(_text(path), str(path))


def parse(text: str, source: str) -> Document:
    """The document that ``text`` says; ``source`` is the name that errors use.

    Raises:
        SpecError: The text is not one plain YAML document.
    """
    lines: dict[Where, int] = {}
    raw: dict[Where, str] = {}
    loader = None
    try:
        loader = _Reader(text)
        node = loader.get_single_node()
        data = None if node is None else _Builder(source, lines, raw).value(node, ())
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, text, source) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = error.character if isinstance(error.character, str) else chr(error.character)
        cause = f"not YAML: character {character!r} is not allowed"
        raise SpecError(cause, place=f"{source}:{line}", remedy="remove it") from error
    except RecursionError:
        raise _too_deep(source) from None
    finally:
        if loader is not None:
            loader.dispose()
    return Document(source, data, lines, raw)


def dump(data: Mapping[str, Any]) -> str:
    """``data`` as YAML that ``parse`` reads back as it was."""
    return yaml.dump(data, Dumper=_Writer, sort_keys=False, default_flow_style=None)


@dataclass
class _Builder:
    """Turns PyYAML's nodes into plain data, counting values so that aliases cannot explode."""

    source: str
    lines: dict[Where, int]
    raw: dict[Where, str]
    count: int = 0

    def value(self, node: yaml.Node, where: Where) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise SpecError(
                f"the file expands to more than {MAX_VALUES} values",
                place=self.source,
                remedy="use fewer aliases (*name) of large values",
            )
        if len(where) > MAX_DEPTH:
            raise _too_deep(self.source)
        self.lines.setdefault(where, node.start_mark.line + 1)
        if node.tag not in _PLAIN:
            raise self._error(
                where,
                f"tag '{node.tag.replace(_TAG, '!!')}' is not allowed",
                "a space file holds plain values only and never runs code; remove the tag",
            )
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, where))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*where, i)) for i, item in enumerate(node.value)]
        self.raw[where] = node.value
        return self._scalar(node, where)

    def _entries(self, node: yaml.MappingNode, where: Where) -> Iterator[tuple[str, Any]]:
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _PLAIN:
                place = f"{self.source}:{line}"
                raise SpecError("a key must be a word", place=place, remedy="write 'key: value'")
            inner = (*where, key.value)
            self.lines[inner] = line
            if key.value in first:
                raise self._error(
                    inner,
                    f"'{key.value}' is given twice",
                    f"it is first given on line {first[key.value]}; keep one",
                )
            first[key.value] = line
            yield key.value, self.value(value, inner)

    def _scalar(self, node: yaml.Node, where: Where) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in ("true", "yes", "on")
        if kind not in ("int", "float"):
            return text
        try:
            number = int(text) if kind == "int" else float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or abs(number) > 1e300:
            raise self._error(where, f"'{text[:40]}' is not a usable number", "write a finite one")
        return number

    def _error(self, where: Where, cause: str, remedy: str) -> SpecError:
        return Document(self.source, None, self.lines).error(where, cause, remedy)


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            inside = sorted(p.name for p in path.glob("*.y*ml"))
            known = f"did you mean '{path / inside[0]}'?" if inside else "give the YAML file itself"
            raise SpecError("this is a folder, not a space file", place=str(path), remedy=known)
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpecError(
            "there is no such file", place=str(path), remedy="give the path of a space file"
        ) from None
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}", place=str(path), remedy="check its permissions"
        ) from error
    except ValueError as error:
        raise SpecError(f"cannot be read: {error}", place=repr(str(path))) from error
    if len(content) > MAX_BYTES:
        raise SpecError(
            f"{len(content)} bytes are too many for a space file",
            place=str(path),
            remedy=f"keep it below {MAX_BYTES} bytes",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"byte 0x{content[error.start]:02x} is not UTF-8 text",
            place=f"{path}:{line}",
            remedy="save the file as UTF-8",
        ) from error


def _not_yaml(error: yaml.MarkedYAMLError, text: str, source: str) -> SpecError:
    lines = text.splitlines() or [""]
    mark = error.problem_mark or error.context_mark
    number = min(mark.line + 1 if mark else 1, len(lines))
    about = " ".join(part for part in (error.context, error.problem) if part)
    remedy = f"the line reads: {lines[number - 1].strip()[:120]}"
    if "block scalar" in about:  # `- accuracy: >= 0.9`
        remedy += "; a limit is a sentence without a colon: accuracy >= baseline - 1pt"
    return SpecError(f"not YAML: {about}", place=f"{source}:{number}", remedy=remedy)


def _too_deep(source: str) -> SpecError:
    return SpecError(
        f"the file is nested more than {MAX_DEPTH} levels deep",
        place=source,
        remedy="a space file needs five at most; look for an alias that holds itself",
    )
