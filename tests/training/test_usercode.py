"""The user's file: what it imports, and where an error in it is said to be."""

import os

import pytest

from autotune.errors import TaskError
from autotune.task import CodeRef
from autotune.training import usercode


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def beside(folder, start="task.py"):
    found = usercode.sources(folder / start)
    return {path.relative_to(folder.resolve()).as_posix() for path in found}


def test_a_file_alone(tmp_path):
    write(tmp_path, {"task.py": "import json, torch\nfrom os import path\n", "json5.py": ""})
    assert beside(tmp_path) == {"task.py"}


def test_what_its_imports_import_counts(tmp_path):
    write(
        tmp_path,
        {
            "task.py": "from one import f\n",
            "one.py": "def f():\n    import two\n",
            "two.py": "import task\n",
            "unused.py": "",
        },
    )
    assert beside(tmp_path) == {"task.py", "one.py", "two.py"}


@pytest.mark.parametrize(
    "line", ["import nets.small", "from nets.small import f", "from nets import small"]
)
def test_a_package_beside_it_counts_with_its_own_file(tmp_path, line):
    write(
        tmp_path,
        {"task.py": line, "nets/__init__.py": "", "nets/small.py": "", "nets/large.py": ""},
    )
    assert beside(tmp_path) == {"task.py", "nets/__init__.py", "nets/small.py"}


def test_relative_imports_are_those_of_the_package(tmp_path):
    write(
        tmp_path,
        {
            "task.py": "import nets\n",
            "small.py": "",
            "nets/__init__.py": "from .small import f\nfrom .deep import thing\n",
            "nets/small.py": "",
            "nets/deep/__init__.py": "from .. import base\n",
            "nets/deep/thing.py": "",
            "nets/base.py": "",
        },
    )
    assert beside(tmp_path) == {
        "task.py",
        *("nets/" + n for n in ("__init__.py", "small.py", "base.py")),
        *("nets/deep/" + n for n in ("__init__.py", "thing.py")),
    }


def test_the_fingerprint_follows_every_byte_of_them(tmp_path):
    write(tmp_path, {"task.py": "import one\n", "one.py": "A = 1\n", "unused.py": ""})
    before = usercode.fingerprint(usercode.sources(tmp_path / "task.py"))
    write(tmp_path, {"unused.py": "A = 2\n"})
    assert usercode.fingerprint(usercode.sources(tmp_path / "task.py")) == before
    write(tmp_path, {"one.py": "A = 2\n"})
    assert usercode.fingerprint(usercode.sources(tmp_path / "task.py")) != before


def failure(folder, name="f", arguments=None):
    with pytest.raises(TaskError) as caught:
        usercode.call(CodeRef(str(folder / "task.py"), name), arguments or {})
    return caught.value


def test_no_such_file(tmp_path):
    error = failure(tmp_path)
    assert (error.cause, error.place) == ("no such Python file", str(tmp_path / "task.py"))


def test_no_such_name_tells_the_names_there_are(tmp_path):
    write(tmp_path, {"task.py": "def build(): ...\n_hidden = 1\n"})
    error = failure(tmp_path)
    assert error.cause == "the file defines no 'f'"
    assert error.place == str(tmp_path / "task.py")
    assert error.remedy == "it has: build"


def test_not_callable(tmp_path):
    write(tmp_path, {"task.py": "f = 3\n"})
    error = failure(tmp_path)
    assert error.cause == "'f' is a int, not callable"
    assert error.place == str(tmp_path / "task.py")


def test_an_error_in_a_call_has_the_line_of_the_users_file(tmp_path):
    write(
        tmp_path,
        {
            "task.py": "import helper_a\n\ndef f(width):\n    return helper_a.g(width)\n",
            "helper_a.py": "\n\n\n\n\n\ndef g(width):\n    return 1 / 0\n",
        },
    )
    error = failure(tmp_path, arguments={"width": 3})
    assert error.cause == "f(width=3) raised ZeroDivisionError: division by zero"
    assert error.place == f"{tmp_path / 'task.py'}:4"


def test_a_wrong_argument_is_told_with_the_file(tmp_path):
    write(tmp_path, {"task.py": "def f(): ...\n"})
    error = failure(tmp_path, arguments={"width": 3})
    assert "unexpected keyword argument 'width'" in error.cause
    assert error.place.startswith(str(tmp_path / "task.py"))


def test_an_error_while_importing_has_its_line(tmp_path):
    write(tmp_path, {"task.py": "x = 1\nraise ValueError('not today')\n"})
    error = failure(tmp_path)
    assert error.cause == "importing it raised ValueError: not today"
    assert error.place == f"{tmp_path / 'task.py'}:2"
    assert failure(tmp_path).cause == error.cause  # the second time as the first


def test_a_file_that_is_not_python_has_its_line(tmp_path):
    write(tmp_path, {"task.py": "x = 1\n\ndef f(:\n"})
    error = failure(tmp_path)
    assert "SyntaxError" in error.cause
    assert error.place == f"{tmp_path / 'task.py'}:3"
    with pytest.raises(TaskError, match="not Python") as caught:
        usercode.sources(tmp_path / "task.py")
    assert caught.value.place == f"{tmp_path / 'task.py'}:3"


def test_a_module_beside_it_that_is_not_python_is_blamed_on_its_import(tmp_path):
    write(tmp_path, {"task.py": "import helper_b\n", "helper_b.py": "\n\n\n\ndef f(:\n"})
    error = failure(tmp_path)
    assert "helper_b.py, line 5" in error.cause
    assert error.place == f"{tmp_path / 'task.py'}:1"


def test_it_may_import_what_lies_beside_it(tmp_path):
    write(
        tmp_path,
        {"task.py": "from helper_c import g\ndef f(): return g()\n",
         "helper_c.py": "def g(): return 7\n"},
    )  # fmt: skip
    assert usercode.call(CodeRef(str(tmp_path / "task.py"), "f"), {}) == 7


def test_a_function_that_leaves_the_process(tmp_path):
    write(tmp_path, {"task.py": "import sys\n\n\ndef f():\n    sys.exit('no licence')\n"})
    with pytest.raises(TaskError, match="SystemExit: no licence") as caught:
        usercode.call(CodeRef(str(tmp_path / "task.py"), "f"), {})
    assert caught.value.place == f"{tmp_path / 'task.py'}:5"


def test_a_file_that_leaves_the_process(tmp_path):
    write(tmp_path, {"task.py": "import sys\nsys.exit('not today')\n"})
    with pytest.raises(TaskError, match="SystemExit: not today") as caught:
        usercode.load(CodeRef(str(tmp_path / "task.py"), "f"))
    assert caught.value.place == f"{tmp_path / 'task.py'}:2"


@pytest.mark.parametrize("head", ["def f(depth):", "class f:\n    def __init__(self, depth):"])
def test_an_argument_that_the_factory_does_not_take(tmp_path, head):
    write(tmp_path, {"task.py": f"import json\n\n{head} pass\n"})
    with pytest.raises(TaskError, match="unexpected keyword argument 'width'") as caught:
        usercode.call(CodeRef(str(tmp_path / "task.py"), "f"), {"depth": 1, "width": 4})
    assert caught.value.place == f"{tmp_path / 'task.py'}:3"
    assert "model.args" in caught.value.remedy
    assert "depth" in caught.value.remedy


def test_a_data_function_that_wants_an_argument(tmp_path):
    write(tmp_path, {"task.py": "def data(path): pass\n"})
    with pytest.raises(TaskError, match="missing a required argument: 'path'") as caught:
        usercode.call(CodeRef(str(tmp_path / "task.py"), "data"), {})
    assert caught.value.place == f"{tmp_path / 'task.py'}:1"


CALLABLES = """
from __future__ import annotations
import numpy as np
from torch import Tensor, nn
from models import small, big as large
from beside import Own
from elsewhere import Far
WIDTHS = (8, 16)
if WIDTHS:
    def inner(): ...
else:
    class Other: ...
try:
    from extra import *
    from extra import fast
except ImportError:
    def slow(): ...
def build_model(width=8, *, depth=2):
    def hidden(): ...
class Net(nn.Module):
    def __init__(self, width=8): ...
class Wide:
    def __init__(self, width): ...
def wide(width): ...
def deep(*, depth): ...
def data() -> autotune.Data: ...
def show() -> None: ...
def quoted() -> "nn.Module": ...
"""


def test_the_factories_of_a_file_are_told_without_running_it(tmp_path):
    files = {"task.py": "raise RuntimeError\n" + CALLABLES, "beside.py": ""}
    file = write(tmp_path, files) / "task.py"
    found = {"Net", "Other", "Own", "build_model", "fast", "inner", "large", "quoted", "slow"}
    found |= {"small"}
    assert set(usercode.factories(file)) == found
    assert usercode.factories(tmp_path / "nowhere.py") == ()


def test_a_file_that_changed_is_read_again(tmp_path):
    file = write(tmp_path, {"task.py": "def one(): ...\n"}) / "task.py"
    assert usercode.factories(file) == ("one",)
    file.write_text("def two(): ...\n")
    os.utime(file, ns=(1, 1))
    assert usercode.factories(file) == ("two",)


def test_a_broken_file_is_told(tmp_path):
    file = write(tmp_path, {"task.py": "def one(:\n"}) / "task.py"
    with pytest.raises(TaskError, match="it is not Python"):
        usercode.factories(file)
