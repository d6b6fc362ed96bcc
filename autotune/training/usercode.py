"""The user's Python file: loaded by path, called, and checked for what it promised."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from autotune.errors import TaskError
from autotune.task import CodeRef


def load(ref: CodeRef) -> Any:
    """The object that ``ref`` names.

    Raises:
        TaskError: The file cannot be imported or does not define the name.
    """
    module = _module(Path(ref.file))
    if not hasattr(module, ref.name):
        names = [n for n in vars(module) if not n.startswith("_")]
        raise TaskError(
            f"the file defines no '{ref.name}'",
            place=ref.file,
            remedy=f"it has: {', '.join(names)}",
        )
    return getattr(module, ref.name)


def call(ref: CodeRef, arguments: dict[str, Any]) -> Any:
    """What the callable behind ``ref`` returns for ``arguments``.

    Raises:
        TaskError: It is not callable, or it raised; the message has its error and its line.
    """
    function = load(ref)
    if not callable(function):
        raise TaskError(
            f"'{ref.name}' is a {type(function).__name__}, not callable",
            place=ref.file,
            remedy="name a function",
        )
    given = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
    _check_arguments(ref, function, arguments, given)
    try:
        return function(**arguments)
    except (Exception, SystemExit) as error:  # the edge to the user's code
        raise TaskError(
            f"{ref.name}({given}) raised {type(error).__name__}: {error}",
            place=f"{ref.file}:{line(error, ref.file)}",
            remedy="call it by itself in Python to see the whole error",
        ) from error


def _check_arguments(ref: CodeRef, function: Any, arguments: dict[str, Any], given: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in function tells none
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        taken = ", ".join(signature.parameters) or "none"
        raise TaskError(
            f"{ref.name}({given}): {error}",
            place=f"{ref.file}:{_defined(function, ref.file)}",
            remedy=f"its arguments ({taken}) and those of model.args must be the same"
            if arguments
            else "it is called without arguments: give them defaults",
        ) from error


def _defined(function: Any, file: str) -> int:
    """The line of the user's file where the function or class begins, else 1."""
    try:
        same = inspect.getsourcefile(function) == file
        return max(1, inspect.getsourcelines(function)[1]) if same else 1
    except (OSError, TypeError):
        return 1


def factories(file: Path) -> tuple[str, ...]:
    """What a file has at its top level that may build a network without arguments, sorted.

    Functions and classes that it defines, but for those that want arguments or say that they
    return something else, and what it imports by name: from elsewhere than beside it no classes
    (they have a capital) and no modules (something is read of them). Told from its text, without
    running it; none where there is no such file. What ``import *`` or a call brings is not seen.

    Raises:
        TaskError: It is not Python.
    """
    if not file.is_file():
        return ()
    return _factories(file, file.stat().st_mtime_ns)


@cache
def _factories(file: Path, changed_ns: int) -> tuple[str, ...]:
    """Cached for the file as it was changed last, at ``changed_ns``."""
    tree = _tree(file)
    read = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    modules = {node.id for node in read if isinstance(node, ast.Name)}
    found = set(_builders(tree.body, file.parent, modules)) - {"*"}
    return tuple(sorted(found))


def _builders(body: list[ast.stmt], folder: Path, modules: Collection[str]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef):
            if not _wants(node, 0) and _returned(node) not in _NO_NETWORK:
                yield node.name
        elif isinstance(node, ast.ClassDef):
            first = [n for n in node.body if isinstance(n, ast.FunctionDef)]
            if not any(n.name == "__init__" and _wants(n, 1) for n in first):
                yield node.name
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names = [alias.asname or alias.name for alias in node.names]
            beside = node.level or any(_files(folder, node.module or ""))
            yield from (n for n in names if beside or (n[0].islower() and n not in modules))
        elif isinstance(node, ast.If | ast.Try):
            handlers = node.handlers if isinstance(node, ast.Try) else []
            for part in (node.body, node.orelse, *(handler.body for handler in handlers)):
                yield from _builders(part, folder, modules)


_NO_NETWORK = ("None", "Data", "bool", "int", "float", "str")
"""What a function that builds no network may say that it returns."""


def _wants(function: ast.FunctionDef, given: int) -> bool:
    """Whether it has arguments without defaults, beyond the first ``given``."""
    arguments = function.args
    count = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return count > given or None in arguments.kw_defaults


def _returned(function: ast.FunctionDef) -> str:
    """The type that it says it returns; "" where it says none."""
    said = function.returns
    return "" if said is None else ast.unparse(said).strip("\"'").rpartition(".")[2]


def sources(file: Path) -> tuple[Path, ...]:
    """``file`` and every module beside it that it imports, directly or through one of them."""
    found: dict[Path, None] = {}
    waiting = [file.resolve()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        waiting += _imported_beside(path, file.resolve().parent)
    return tuple(sorted(found))


def fingerprint(files: tuple[Path, ...]) -> str:
    """A hash over the files' names and bytes."""
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.name}\0{content}\0".encode())
    return digest.hexdigest()[:32]


def line(error: BaseException, file: str) -> int:
    """The last line of the user's file on the way to the error; 1 where there is none."""
    return found(error, file) or 1


def found(error: BaseException, file: str) -> int | None:
    """The last line of ``file`` on the way to the error; None where it was never there."""
    if isinstance(error, SyntaxError) and error.lineno and error.filename == file:
        return error.lineno
    last, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            last = trace.tb_lineno
        trace = trace.tb_next
    return last


def _imported_beside(path: Path, folder: Path) -> Iterator[Path]:
    """The files under ``folder`` that ``path`` imports, the packages on the way included."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(folder, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if node.level else folder
            for alias in node.names:
                yield from _files(base, f"{node.module or ''}.{alias.name}".lstrip("."))


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise TaskError(f"it is not Python: {error.msg}", place=f"{path}:{error.lineno}") from error


def _files(base: Path, name: str) -> Iterator[Path]:
    """What importing the dotted ``name`` from ``base`` executes of the files there."""
    place = base
    for word in name.split("."):
        place = place / word
        candidates = (place.with_name(f"{word}.py"), place / "__init__.py")
        yield from (c.resolve() for c in candidates if c.is_file())


def _module(path: Path) -> ModuleType:
    """The module of a file, imported once per process; its folder joins the path."""
    name = "_autotune_user_" + hashlib.sha256(str(path).encode()).hexdigest()[:12]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TaskError("no such Python file", place=str(path), remedy="mend the path")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the edge to the user's code
        del sys.modules[name]
        raise TaskError(
            f"importing it raised {type(error).__name__}: {error}",
            place=f"{path}:{line(error, str(path))}",
            remedy="run the file by itself with Python to see the whole error",
        ) from error
    return module
