"""The sentences that errors of the space file are made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from autotune.errors import SpecError
from autotune.spec.marks import Document, Where

EXPECTED: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` where something is close, else all that is known."""
    options = list(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(options)}" if options else "there is nothing to choose from here"


def unknown(
    document: Document, where: Where, what: str, word: str, known: Iterable[str]
) -> SpecError:
    """``word`` at ``where`` names a ``what`` (a key, a backend, ...) that is none of ``known``."""
    return document.error(where, f"unknown {what} '{word}'", did_you_mean(word, known))


def unknown_key(document: Document, where: Where, known: Iterable[str]) -> SpecError:
    """The key at ``where`` is none of ``known``."""
    return unknown(document, where, "key", str(where[-1]), known)


def wrong_kind(document: Document, where: Where, expected: str, example: str) -> SpecError:
    """The value at ``where`` is not ``expected``; says to quote ``off`` where a word belongs."""
    value = document.at(where)
    written = document.raw.get(where, shown(value)) if isinstance(value, bool) else shown(value)
    if isinstance(value, bool) and expected == EXPECTED[str]:
        cause = f"expected {expected}, but {written} without quotes is a boolean in YAML"
        return document.error(where, cause, f'quote it: "{written}"')
    return document.error(where, f"expected {expected}, not {written}", example)


def shown(value: object) -> str:
    """A value as an error shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"'{value[:60]}'" if isinstance(value, str) else str(value)
