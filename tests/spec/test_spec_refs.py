"""Files of the model that stand in an installed package instead of beside the space file."""

import sys

import pytest

from autotune.errors import SpecError
from autotune.spec import load
from autotune.task import CodeRef

GIVEN = "  factory: task.py:build_model\n  args: {width: 16, depth: 2}\n  weights: teacher.pt"


@pytest.fixture
def package(tmp_path_factory, monkeypatch):
    """An importable package that fails when it is imported, with a model and a task in it."""
    folder = tmp_path_factory.mktemp("site") / "kept_models"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('it must not be imported')\n")
    (folder / "models" / "model.onnx").write_bytes(b"")
    (folder / "task.py").write_text("def data(): ...\n")
    (folder.parent / "lonely_module.py").write_text("")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_a_file_in_a_package_is_found_without_importing_it(write, package):
    spec = load(write("weights: teacher.pt", "weights: package:kept_models/models/model.onnx"))
    assert spec.model.weights == str((package / "models" / "model.onnx").resolve())
    assert "kept_models" not in sys.modules


def test_a_function_may_stand_in_a_package_too(write, package):
    spec = load(write("data: task.py:data", "data: package:kept_models/task.py:data"))
    assert spec.data == CodeRef(str((package / "task.py").resolve()), "data")


def test_the_resolved_form_loads_again(write, again, package):
    spec = load(write("weights: teacher.pt", "weights: package:kept_models/models/model.onnx"))
    assert again(spec).model == spec.model


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        ("package:no_such_thing/model.onnx", "the package 'no_such_thing' is not installed", "pip"),
        ("package:kept_models/models/modl.onnx", "does not exist", "did you mean 'model.onnx'?"),
        ("package:kept_models", "'package:kept_models' is a folder, not a file", "name a file"),
        ("package:lonely_module/model.onnx", "'lonely_module' is a module", "name a package"),
        ("package:kept-models/model.onnx", "'kept-models' cannot name", "package:name/path"),
        ("package:/model.onnx", "'' cannot name a package", "package:name/path"),
    ],
)
def test_what_is_not_there_is_told(write, package, text, cause, remedy):
    with pytest.raises(SpecError) as caught:
        load(write(GIVEN, f'  onnx: "{text}"'))
    assert caught.value.place.endswith(": model.onnx")
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
