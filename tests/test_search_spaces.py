"""Every ready search space loads, can be copied to start from, and brings what it promises."""

import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from autotune.cli import group
from autotune.errors import SpecError, UserError
from autotune.hardware import accelerators
from autotune.spec import load
from autotune.task import CodeRef
from autotune.training import usercode

HOME = Path(__file__).parents[1] / "search_spaces"
SPACES = sorted(HOME.glob("*/space.yaml"))
NAMES = [path.parent.name for path in SPACES]
DATA = {"digits": "sklearn", "text": "django", "magika": "magika"}
"""The package that a space's data comes from."""
FLOOR = {"digits": 0.98, "text": 0.82, "magika": 0.86}
"""What the given model reaches at least on the first 300 test samples."""


def needs(package, name):
    if find_spec(package) is None:
        pytest.skip(f"the space {name} needs the package {package}, which is not installed")


VARIANTS = sorted(set(HOME.glob("*/*.yaml")) - set(SPACES))


@pytest.mark.parametrize("path", VARIANTS, ids=[f"{p.parent.name}/{p.name}" for p in VARIANTS])
def test_a_variant_loads_and_shares_the_files_of_its_space(path):
    if "gpu: 0" in path.read_text() and accelerators().missing:  # tests/spec/test_spec_gpu.py
        with pytest.raises(SpecError, match="asks for a GPU"):
            load(path)
        return
    spec, beside = load(path), load(path.with_name("space.yaml"))
    assert len(spec.space.grid().points) > spec.budget.trials
    assert (spec.model, spec.data) == (beside.model, beside.data)
    assert spec.name != beside.name


@pytest.fixture(params=SPACES, ids=NAMES)
def path(request):
    """A space's file, where the packages it refers to are installed."""
    for package in re.findall(r"package:(\w+)/", request.param.read_text()):
        needs(package, request.param.parent.name)
    return request.param


def task(name, word):
    """What the space's task file calls ``word``."""
    return usercode.load(CodeRef(str(HOME / name / "task.py"), word))


def test_it_loads_and_holds_something_to_search(path):
    spec = load(path)
    grid = spec.space.grid()
    assert grid is None or len(grid.points) > spec.budget.trials


def test_the_digits_space_is_as_large_as_promised():
    spec = load(HOME / "digits" / "space.yaml")
    assert len(spec.space.grid().points) >= 2000
    assert spec.budget.trials >= 48


def test_init_copies_it(path, tmp_path):
    name = path.parent.name
    listed = CliRunner().invoke(group, ["init"])
    assert name in listed.output
    copied = CliRunner().invoke(group, ["init", name, str(tmp_path / "mine")])
    assert copied.exit_code == 0, copied.output
    assert load(tmp_path / "mine" / "space.yaml").space.grid() == load(path).space.grid()


def test_init_refuses_what_it_does_not_know_and_what_exists(tmp_path):
    with pytest.raises(UserError, match="no search space 'nothing'"):
        CliRunner().invoke(
            group, ["init", "nothing"], catch_exceptions=False, standalone_mode=False
        )
    with pytest.raises(UserError, match="exists already"):
        CliRunner().invoke(
            group, ["init", "digits", str(tmp_path)], catch_exceptions=False, standalone_mode=False
        )


def test_every_space_has_a_floor_and_names_its_package():
    assert set(NAMES) == set(DATA) == set(FLOOR)


def test_the_given_model_is_good_on_data_it_has_not_seen(path):
    name = path.parent.name
    needs(DATA[name], name)
    spec = load(path)
    data = usercode.call(spec.data, {})
    x, y = data.test
    parts = [x, data.calibration, *([] if data.train is None else [data.train[0]])]
    contents = [{row.tobytes() for row in part} for part in parts]
    assert sum(map(len, contents)) == len(set.union(*contents)), "a sample is in two parts"
    predictions = _predict(spec.model, x[:300])
    assert (predictions.argmax(1) == y[:300]).mean() >= FLOOR[name]


def _predict(model, x):
    if model.onnx is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: x})[0]
    from autotune.training import network

    return network.predict(network.given(model), {"input": x}, 0)


def test_the_text_network_says_the_same_in_every_runtime(tmp_path):
    import onnxruntime
    import openvino
    import torch

    torch.manual_seed(0)
    network = task("text", "build_model")(width=32, depth=2, heads=2).eval()
    x = np.random.default_rng(0).integers(0, 256, (8, 48))
    for row, length in zip(x, (1, 5, 8, 20, 30, 47, 48, 48), strict=True):
        row[length:] = 256
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.from_numpy(x[:2]),),
            str(tmp_path / "model.onnx"),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", precise)
    for batch in (1, 8):
        with torch.inference_mode():
            wanted = network(torch.from_numpy(x[:batch])).numpy()
        assert wanted.std() > 1e-3
        np.testing.assert_allclose(session.run(None, {"input": x[:batch]})[0], wanted, atol=1e-5)
        np.testing.assert_allclose(compiled(x[:batch])[0], wanted, atol=1e-5)


def test_a_text_does_not_change_with_what_stands_behind_its_end():
    import torch

    torch.manual_seed(0)
    network = task("text", "build_model")(width=32, depth=2, heads=2).eval()
    x = np.full((1, 48), 256)
    x[0, :6] = list(b"Sprache"[:6])
    seen = network.bytes.weight.detach().clone()
    with torch.inference_mode():
        before = network(torch.from_numpy(x))
        network.bytes.weight[256] += 1.0
        after = network(torch.from_numpy(x))
    assert not torch.equal(seen, network.bytes.weight)
    torch.testing.assert_close(before, after)


def test_the_catalogue_reader_takes_what_is_translated():
    catalogue = r"""
msgid ""
msgstr ""
"Language: de\n"

#, python-format
msgid "Yes"
msgstr "Ja, \"%(name)s\""

msgid "Long"
msgstr ""
"Zeile eins\n"
"Zeile zwei"

#, fuzzy
msgid "Perhaps"
msgstr "Vielleicht"

msgid "one"
msgid_plural "many"
msgstr[0] "eins"
msgstr[1] "viele"

msgid "Missing"
msgstr ""

#~ msgid "Old"
#~ msgstr "Alt"
"""
    found = list(task("text", "messages")(catalogue))
    assert found == ['Ja, "%(name)s"', "Zeile eins\nZeile zwei", "eins", "viele"]


WHITE = b" \n\t" * 2000
CONTENTS = {
    "short": b"import os\n",
    "too short": b"import",
    "white space around": b"\n\n   import os\nprint(os.name)\n" + WHITE,
    "white space only": WHITE,
    "little left of it": WHITE[:3000] + b"x = 1" + WHITE[:1000],
    "between one part and two": bytes(range(256)) * 6,
    "longer than a block": b"def f(x):\n    return x + 1\n\n\n" * 400,
    "white space as long as a block": WHITE[:5000] + b"{'a': 1}" * 900,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_magika_itself_reads_a_file_as_the_space_does(content):
    needs("magika", "magika")
    import onnxruntime
    from magika import Magika, PredictionMode

    features = task("magika", "features")(content)
    judged = Magika(prediction_mode=PredictionMode.BEST_GUESS).identify_bytes(content).prediction
    if features is None:
        assert judged.dl.label == "undefined"
        return
    spec = load(HOME / "magika" / "space.yaml")
    session = onnxruntime.InferenceSession(spec.model.onnx)
    scores = session.run(None, {"bytes": features[None]})[0][0]
    labels = task("magika", "_config")()["target_labels_space"]
    assert labels[scores.argmax()] == judged.dl.label
    assert scores.max() == pytest.approx(judged.score, abs=1e-6)
