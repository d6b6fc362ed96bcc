"""Files and ``file.py:name`` references of the space file, checked without importing them.

A file stands beside the space file, or inside an installed package: ``package:name/path/in/it``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from autotune.errors import SpecError
from autotune.spec.marks import Document, Where
from autotune.spec.words import did_you_mean
from autotune.task import CodeRef

PACKAGE = "package:"
_REFERENCE = re.compile(r"^(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)$")


def looks_like_code(text: str) -> bool:
    """Whether ``text`` means a file rather than the name of a plug-in."""
    return ".py" in text or ":" in text or "/" in text


def file(text: str, folder: Path, document: Document, where: Where) -> Path:
    """The absolute path of a file beside the space file or inside an installed package.

    Raises:
        SpecError: It is not there, or the package is not.
    """
    rest = text
    if text.startswith(PACKAGE):
        package, _, rest = text.removeprefix(PACKAGE).partition("/")
        folder = _package(package, document, where)
    try:
        path = (folder / rest).resolve()
        found = path.is_file()
    except (OSError, ValueError) as error:  # too long a name, a NUL in it
        about = error.strerror if isinstance(error, OSError) else str(error)
        cause = f"'{text[:60]}' cannot name a file: {about}"
        raise document.error(where, cause, "name a file beside the space file") from error
    if found:
        return path
    if path.is_dir():
        raise document.error(where, f"'{text}' is a folder, not a file", "name a file in it")
    folder = path.parent
    beside = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
    guess = did_you_mean(path.name, sorted(beside))
    remedy = guess if guess.startswith("did you mean") else f"looked for {path}"
    raise document.error(where, f"the file '{text}' does not exist", remedy)


def code(text: str, folder: Path, document: Document, where: Where) -> CodeRef:
    """``task.py:build_model`` with its file made absolute; the file is parsed, never run.

    Raises:
        SpecError: It is malformed, the file is missing or not Python, or defines no such name.
    """
    match = _REFERENCE.match(text)
    if match is None:
        raise document.error(
            where, f"'{text}' does not name a function in a file", "write it as task.py:build_model"
        )
    path = file(match["file"], folder, document, where)
    defined = _defined(path, document, where)
    if defined is not None and match["name"] not in defined:
        raise document.error(
            where,
            f"{match['file']} defines no '{match['name']}'",
            did_you_mean(match["name"], sorted(n for n in defined if not n.startswith("_"))),
        )
    return CodeRef(str(path), match["name"])


def _package(name: str, document: Document, where: Where) -> Path:
    """The folder of an installed package, found without importing it.

    Raises:
        SpecError: There is no such package, or it is a single file.
    """
    if not name.isidentifier():
        cause = f"'{name}' cannot name a package"
        raise document.error(where, cause, f"write it as {PACKAGE}name/path/inside/it")
    found = find_spec(name)
    if found is None:
        raise document.error(where, f"the package '{name}' is not installed", f"pip install {name}")
    if not found.submodule_search_locations:
        raise document.error(where, f"'{name}' is a module without files", "name a package")
    return Path(next(iter(found.submodule_search_locations)))


def _defined(path: Path, document: Document, where: Where) -> set[str] | None:
    """The names at the top of a Python file; None where only running it could tell."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise _not_python(path, error, document, where) from error
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, absurd nesting
        raise document.error(where, f"{path.name} is not Python: {error}", "mend it") from error
    names = set(_names(tree.body))
    return None if names & {"*", "__getattr__"} else names


def _not_python(path: Path, error: SyntaxError, document: Document, where: Where) -> SpecError:
    line = f", line {error.lineno}" if error.lineno else ""
    remedy = f"mend {path.name}: {(error.text or '').strip()[:120]}".rstrip(": ")
    return document.error(where, f"{path.name}{line} is not Python: {error.msg}", remedy)


def _names(body: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in statement.names)
        else:  # assignments, also those inside `if`, `try` and `with`
            yield from _stored(statement)
            yield from _names(_inner(statement))


def _stored(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _inner(statement: ast.stmt) -> Iterator[ast.stmt]:
    for node in ast.iter_child_nodes(statement):
        if isinstance(node, ast.stmt):
            yield node
        elif isinstance(node, ast.ExceptHandler):
            yield from node.body
