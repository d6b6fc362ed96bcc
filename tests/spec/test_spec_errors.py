"""Every way to get the file wrong: the place, the cause and the remedy that the user sees."""

# ruff: noqa: E501 - a table with one case a line

import pytest

from autotune import plugins
from autotune.errors import SpecError
from autotune.hardware import machine
from autotune.spec import load

CORES = len(machine().cores)

# (piece of the file, what replaces it, key in the place, words of the cause, words of the remedy)
CASES = {
    # unknown keys
    "key at the top": ("budget:", "budgets:", "budgets", "unknown key 'budgets'", "did you mean 'budget'?"),
    "key of the model": ("  weights:", "  weight:", "model.weight", "unknown key 'weight'", "did you mean 'weights'?"),
    "key of the budget": ("{trials: 8, time: 4m}", "{trails: 8}", "budget.trails", "unknown key 'trails'", "did you mean 'trials'?"),
    "key of a target": ("lane_cores: 1,", "lanecores: 1,", "targets.local.lanecores", "unknown key 'lanecores'", "did you mean 'lane_cores'?"),
    "section of the space": ("  prune:", "  prunes:", "space.prunes", "unknown key 'prunes'", "did you mean 'prune'?"),
    "parameter of a technique": ("    ratio:", "    ration:", "space.prune.ration", "unknown key 'ration'", "did you mean 'ratio'?"),
    "parameter of a backend": ("      level:", "      levels:", "space.backend.onnxruntime.levels", "unknown key 'levels'", "did you mean 'level'?"),
    "parameter of ptq": ("{samples: [32", "{sample: [32", "space.ptq.sample", "unknown key 'sample'", "did you mean 'samples'?"),
    "argument of the factory": ("    width: [16, 8]", "    height: [16, 8]", "space.student.height", "unknown key 'height'", "known: factory, width, depth, shrink, round_to"),
    "key of a range": ("batch: [1, 8]", "batch: {low: 1, hihg: 8}", "space.batch.hihg", "unknown key 'hihg'", "did you mean 'high'?"),
    # unknown words
    "backend in a mapping": ("    onnxruntime:\n      level: [basic, all]", "    onnxruntme:", "space.backend.onnxruntme", "unknown backend 'onnxruntme'", "did you mean 'onnxruntime'?"),
    "metric": ("{accuracy: top1}", "{accuracy: top11}", "metrics.accuracy", "unknown metric 'top11'", "did you mean 'top1'?"),
    "sampler": ("seed: 3", "sampler: tpee", "sampler", "unknown sampler 'tpee'", "did you mean 'tpe'?"),
    "preset": ("seed: 3", "preset: quik", "preset", "unknown preset 'quik'", "did you mean 'quick'?"),
    "objective": ("latency_p50: min", "latency_50: min", "objectives.latency_50", "unknown objective 'latency_50'", "did you mean 'latency_p50'?"),
    "metric objective not declared": ("{accuracy: max, lat", "{f1: max, lat", "objectives.f1", "it is not among the metrics", "declare it under metrics:"),
    "direction": ("{accuracy: max, lat", "{accuracy: maxx, lat", "objectives.accuracy", "unknown direction 'maxx'", "did you mean 'max'?"),
    "worse direction": ("{accuracy: max, lat", "{accuracy: min, lat", "objectives.accuracy", "asks for a worse accuracy", "write accuracy: max"),
    "choice of a parameter": ("level: [basic, all]", "level: [basic, al]", "space.backend.onnxruntime.level[1]", "'al' is not a level that backend.onnxruntime knows", "did you mean 'all'?"),
    "precision": ("[fp32, int8]", "[fp32, int9]", "space.precision[1]", "'int9' is not a precision that the space knows", "did you mean 'int8'?"),
    # wrong types
    "word for a number": ("seed: 3", "seed: three", "seed", "expected a whole number, not 'three'", "for example seed: 0"),
    "fraction for a whole number": ("threads: 1", "threads: 1.5", "space.threads", "expected a whole number, not 1.5", "for example threads: "),
    "switch for a number": ("threads: 1", "threads: off", "space.threads", "expected a whole number, not off", "for example threads: "),
    "boolean for a number": ("threads: 1", "threads: true", "space.threads", "expected a whole number, not true", "for example threads: "),
    "list for a mapping": ("budget: {trials: 8, time: 4m}", "budget: [8, 4m]", "budget", "expected a mapping, not a list", "for example budget: {trials"),
    "mapping for a list": ("  - latency_p99 <= 2ms\n  - accuracy >= baseline - 1pt\n  - minimize cost", "  latency_p99: 2ms", "slo", "expected a list, not a mapping", "for example slo: ["),
    "number for a word": ("data: task.py:data", "data: 12", "data", "expected a word, not 12", "for example data: task.py:data"),
    "nothing for a list": ("batch: [1, 8]", "batch:", "space.batch", "expected a whole number, not nothing", "for example batch: 1"),
    "word for a section": ("  finetune: {epochs: 4}", "  finetune: yes please", "space.finetune", "expected a mapping, not 'yes please'", "its parameters: epochs, lr"),
    "word for a number in a target": ("0.10", "cheap", "targets.local.price_per_hour", "expected a number, not 'cheap'", "for example price_per_hour: 0.10"),
    "list inside a list": ("batch: [1, 8]", "batch: [1, [8]]", "space.batch[1]", "expected a whole number, not a list", "for example batch: 1"),
    "list for an argument": ("{width: 16, depth", "{width: [16], depth", "model.args.width", "expected a word, a number or true/false, not a list", "for example width: 16"),
    "number for a name of a backend": ("    onnxruntime:\n      level: [basic, all]\n    openvino:", "    [torch, 3]", "space.backend[1]", "expected a word, not 3", "known: "),
    "a range of words": ("[none, channel]", "{low: none, high: channel}", "space.prune.structure", "structure is not a number that has a range", "none, channel"),
    "log that is no switch": ("ratio: [0.3, 0.5]", "ratio: {low: 0.3, high: 0.5, log: 3}", "space.prune.ratio.log", "expected true or false, not 3", "write log: true"),
    "points without a unit": ("baseline - 1pt", "baseline - 1", "slo[1]", "1 without a unit is 100 points of accuracy", "write 1pt"),
    "percent without a unit": ("baseline - 1pt", "98", "slo[1]", "98 without a unit is more than accuracy can be", "write 98%"),
    # booleans where words belong
    "off for a level": ("level: [basic, all]", "level: [off, all]", "space.backend.onnxruntime.level[0]", "expected a word, but off without quotes is a boolean", 'quote it: "off"'),
    "no for a name": ("name: small", "name: no", "name", "expected a word, but no without quotes is a boolean", 'quote it: "no"'),
    "on for a preset": ("seed: 3", "preset: on", "preset", "expected a word, but on without quotes is a boolean", 'quote it: "on"'),
    "yes for a precision": ("[fp32, int8]", "yes", "space.precision", "expected a word, but yes without quotes is a boolean", 'quote it: "yes"'),
    # values
    "empty list": ("batch: [1, 8]", "batch: []", "space.batch", "the list of choices is empty", "name a value"),
    "empty metrics": ("{accuracy: top1}", "{}", "metrics", "is empty", "or leave 'metrics' out"),
    "empty backends": ("    onnxruntime:\n      level: [basic, all]\n    openvino:", "    []", "space.backend", "no backend is named", "known: onnxruntime, openvino, tensorrt, torch"),
    "duplicate value": ("batch: [1, 8]", "batch: [1, 8, 1]", "space.batch[2]", "1 is named twice", "keep one"),
    "duplicate number": ("ratio: [0.3, 0.5]", "ratio: [0.5, 5e-1]", "space.prune.ratio[1]", "0.5 is named twice", "keep one"),
    "duplicate backend": ("    onnxruntime:\n      level: [basic, all]\n    openvino:", "    [torch, torch]", "space.backend[1]", "'torch' is named twice", "keep one"),
    "low above high": ("batch: [1, 8]", "batch: {low: 8, high: 1}", "space.batch", "low (8) is above high (1)", "swap them"),
    "range without high": ("batch: [1, 8]", "batch: {low: 8}", "space.batch", "the range has no 'high'", "{low, high, step | log}"),
    "step and log": ("batch: [1, 8]", "batch: {low: 1, high: 8, step: 2, log: true}", "space.batch", "both step and log", "keep one"),
    "step zero": ("batch: [1, 8]", "batch: {low: 1, high: 8, step: 0}", "space.batch.step", "the step is 0", "make it positive"),
    "log from zero": ("ratio: [0.3, 0.5]", "ratio: {low: 0, high: 0.5, log: true}", "space.prune.ratio.low", "a log range starts above 0", "raise it"),
    "endless range": ("batch: [1, 8]", "batch: {low: 1, high: 1000000000000}", "space.batch", "more than 10000 values", "larger step"),
    "below its bound": ("batch: [1, 8]", "batch: [0, 8]", "space.batch[0]", "0 is out of bounds", "batch is at least 1"),
    "above its bound": ("ratio: [0.3, 0.5]", "ratio: [0.3, 1.5]", "space.prune.ratio[1]", "1.5 is out of bounds", "ratio is at least 0 and at most 0.95"),
    "range beyond its bound": ("ratio: [0.3, 0.5]", "ratio: {low: 0.3, high: 2}", "space.prune.ratio.high", "2.0 is out of bounds", "at most 0.95"),
    "negative seed": ("seed: 3", "seed: -1", "seed", "must be at least 0, not -1", "for example seed: 0"),
    "infinite number": ("ratio: [0.3, 0.5]", "ratio: [0.3, 1e999]", "space.prune.ratio[1]", "'1e999' is not a usable number", "finite"),
    "name of a folder": ("name: small", "name: ../small", "name", "'../small' cannot name a folder", "use letters"),
    "free machine": ("0.10", "0", "targets.local.price_per_hour", "must be more than 0", "for example price_per_hour"),
    # budget
    "zero trials": ("trials: 8", "trials: 0", "budget.trials", "must be at least 1, not 0", "for example trials: 48"),
    "negative trials": ("trials: 8", "trials: -4", "budget.trials", "must be at least 1, not -4", "for example trials: 48"),
    "bad duration": ("time: 4m", "time: 4 minutes", "budget.time", "'4 minutes' is not a duration", "90s, 4m, 1h30m"),
    "no duration": ("time: 4m", "time: 0s", "budget.time", "longer than 0, not 0s", "90s, 4m, 1h30m"),
    "duration of a list": ("time: 4m", "time: [4]", "budget.time", "expected a duration, not a list", "90s, 4m, 1h30m"),
    "endless stage": ("seed: 3", "stage_timeout: unlimited", "stage_timeout", "a stage must end", "90s, 4m"),
    # SLO
    "unit": ("latency_p99 <= 2ms", "latency_p99 <= 2kg", "slo[0]", "latency_p99 cannot be given as unit 'kg'", "write it in ms"),
    "limit": ("latency_p99 <= 2ms", "latency_p99 about 2ms", "slo[0]", "is not a limit", "for example 'latency_p99 <= 2ms'"),
    "quantity": ("latency_p99 <= 2ms", "latency_p98 <= 2ms", "slo[0]", "nothing called 'latency_p98' is measured", "latency_p99"),
    "cost without a price": (", price_per_hour: 0.10}", "}", "slo[2]", "'minimize cost' needs a price", "price_per_hour"),
    # the model and its files
    "no model": ("model:\n  factory: task.py:build_model\n  args: {width: 16, depth: 2}\n  weights: teacher.pt\n", "", "model", "'model' is missing", "for example model:"),
    "neither": ("  factory: task.py:build_model\n  args: {width: 16, depth: 2}\n  weights: teacher.pt", "  {}", "model", "neither a factory nor an ONNX file", "factory: task.py:build_model"),
    "both": ("  args: {", "  onnx: model.onnx\n  args: {", "model", "both a factory and an ONNX file", "give one"),
    "missing weights": ("teacher.pt", "teachr.pt", "model.weights", "the file 'teachr.pt' does not exist", "did you mean 'teacher.pt'?"),
    "a folder for weights": ("teacher.pt", ".", "model.weights", "'.' is a folder, not a file", "name a file in it"),
    "missing task": ("data: task.py:data", "data: tasks.py:data", "data", "the file 'tasks.py' does not exist", "did you mean 'task.py'?"),
    "malformed reference": ("data: task.py:data", "data: task.py", "data", "'task.py' does not name a function in a file", "task.py:build_model"),
    "undefined function": ("task.py:build_model", "task.py:build_mdl", "model.factory", "task.py defines no 'build_mdl'", "did you mean 'build_model'?"),
    "metric without a direction": ("{accuracy: top1}", '{accuracy: "task.py:score"}', "metrics.accuracy", "does not say which direction is better", "direction: max"),
    "metric against its direction": ("{accuracy: top1}", "{accuracy: {metric: top1, direction: min}}", "metrics.accuracy.direction", "the better direction of top1 is max", "write direction: max"),
    "metric with a taken name": ("{accuracy: top1}", "{accuracy: top1, cost: top1}", "metrics.cost", "'cost' is measured already", "another name"),
    "metric of two words": ("{accuracy: top1}", "{accuracy: top1, my score: top1}", "metrics.my score", "is not one word", "another name"),
    # the machine
    "lane too wide": ("lane_cores: 1,", f"lane_cores: {CORES + 1},", "targets.local.lane_cores", f"ask for {CORES + 1} cores and this machine has {CORES}", "lower lane_cores"),
    "too many lanes": ("lane_cores: 1,", f"lane_cores: 1, lanes: {CORES + 1},", "targets.local.lanes", f"this machine has {CORES}", "lower lanes"),
    "no point can run": ("threads: 1", f"threads: {CORES + 1}", "space", f"no configuration of this space can run here: {CORES + 1} threads are more than", "add values"),
    # words of what is not in the space
    "ptq without int8": ("[fp32, int8]", "fp32", "space.ptq", "'ptq' applies only where precision is int8 or fp8, which is nowhere in this space", "give space.precision a value for which it does, or remove 'ptq'"),
    "finetune without pruning": ("  prune:\n    structure: [none, channel]\n    ratio: [0.3, 0.5]\n", "", "space.finetune", "'finetune' applies only where prune.structure is channel", "give space.prune.structure a value"),
    "distill without a student": ("  student:\n    width: [16, 8]\n", "", "space.distill", "'distill' applies only where not (student.factory is build_model and student.width is 16 and student.depth is 2 and student.shrink is 0.0)", "remove 'distill'"),
    "ratio of nothing": ("    structure: [none, channel]\n    ratio: [0.3, 0.5]\n  finetune: {epochs: 4}", "    structure: none\n    ratio: [0.3, 0.5]", "space.prune.ratio", "'prune.ratio' applies only where prune.structure is channel", "or remove 'prune.ratio'"),
    "fusion at a level without": ("level: [basic, all]", "level: basic\n      conv_fusion: [true, false]", "space.backend.onnxruntime.conv_fusion", "'backend.onnxruntime.conv_fusion' applies only where backend is onnxruntime and onnxruntime.level is extended or all", "or remove"),
    "training an ONNX model": ("  factory: task.py:build_model\n  args: {width: 16, depth: 2}\n  weights: teacher.pt", "  onnx: model.onnx", "space.student", "an ONNX model is not one", "remove it, or give the model as factory"),
    "args of an ONNX model": ("  factory: task.py:build_model\n", "  onnx: model.onnx\n", "model", "takes no arguments", "remove args, weights and train"),
    # keys
    "duplicate key": ("  threads: 1", "  threads: 1\n  threads: 2", "space.threads", "'threads' is given twice", "it is first given on line 19"),
    "tag that makes an object": ("name: small", "name: !!python/name:os.system", "name", "tag '!!python/name:os.system' is not allowed", "never runs code"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_error_says_where_what_and_what_would_be_right(name, write):
    old, new, where, cause, remedy = CASES[name]
    path = write(old, new)
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.place.endswith(f": {where}")
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
    assert caught.value.place.startswith(f"{path}:")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("trials: 8", "trials: 0", "16: budget.trials"),
        ("    ratio: [0.3, 0.5]", "    ratio: [0.3,\n      1.5]", "26: space.prune.ratio[1]"),
        ("minimize cost", "minimize speed", "13: slo[2]"),
        ("  batch: [1, 8]", "  batches: [1, 8]", "18: space.batches"),
        ("    openvino:", "    openvno:", "32: space.backend.openvno"),
        ("  precision: [fp32, int8]", "  precision:\n  - fp32\n  - int9", "29: space.precision[1]"),
        ("name: small", "name: small\nname: large", "2: name"),
        ("data: task.py:data\n", "", "1: data"),
        ("  factory: task.py:build_model\n", "", "3: model"),
    ],
)
def test_the_line_is_the_one_to_mend(old, new, place, write):
    path = write(old, new)
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.place == f"{path}:{place}"


def test_of_several_errors_the_first_in_the_file_is_told(write):
    path = write("budget: {trials: 8, time: 4m}", "budget: {trials: 0, time: soon}\nzzz: 1")
    with pytest.raises(SpecError, match="must be at least 1"):
        load(path)


@pytest.mark.parametrize(
    ("overrides", "place", "cause", "remedy"),
    [
        ({"budget.trials": 0}, "--trials", "must be at least 1, not 0", "trials: 48"),
        ({"budget.time": "soon"}, "--time", "'soon' is not a duration", "90s"),
        ({"seed": -1}, "--seed", "must be at least 0", "seed: 0"),
        ({"preset": "quik"}, "--preset", "unknown preset 'quik'", "did you mean 'quick'?"),
        ({"sampler": "tpee"}, "--sampler", "unknown sampler 'tpee'", "did you mean 'tpe'?"),
        ({"space.batch": [0]}, "--set space.batch", "0 is out of bounds", "at least 1"),
        ({"budgets.trials": 1}, "--set budgets.trials", "unknown key 'budgets'", "'budget'"),
        ({"data.file": "x"}, "--set data.file", "'data' is not a mapping", "change it in the file"),
        ({"name": True}, "--name", "without quotes is a boolean", 'quote it: "true"'),
    ],
)
def test_an_override_that_is_wrong_is_named_by_its_flag(write, overrides, place, cause, remedy):
    with pytest.raises(SpecError) as caught:
        load(write(), overrides)
    assert caught.value.place == place
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


def test_a_task_file_that_is_not_python_is_told_with_its_line(write, folder):
    (folder / "task.py").write_text("def data():\n    return (\n")
    path = write()
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.place == f"{path}:4: model.factory"
    assert "task.py, line 2 is not Python: '(' was never closed" in caught.value.cause
    assert "mend task.py: return (" in caught.value.remedy


@pytest.mark.parametrize(
    "task",
    [
        "from elsewhere import data, build_model",
        "from elsewhere import *",
        "import data, build_model",
        "data = build_model = None",
        "data: object = 1\nclass build_model: ...",
        "if True:\n    def data(): ...\ntry:\n    pass\nexcept E:\n    def build_model(): ...",
        "def __getattr__(name): ...",
    ],
)
def test_a_name_may_come_into_a_task_file_in_every_way(task, write, folder):
    (folder / "task.py").write_text(task)
    assert load(write()).data.name == "data"


@pytest.fixture
def broken_backend(tmp_path, monkeypatch):
    """A third party's backend, found by its entry point, that cannot be used here."""
    site = tmp_path / "site"
    (site / "nowhere-1.0.dist-info").mkdir(parents=True)
    (site / "nowhere-1.0.dist-info" / "METADATA").write_text("Name: nowhere\nVersion: 1.0\n")
    entry = "[autotune.backends]\nnowhere = nowhere_backend\n"
    (site / "nowhere-1.0.dist-info" / "entry_points.txt").write_text(entry)
    (site / "nowhere_backend.py").write_text(
        "summary = 'an accelerator'\nlibraries = ()\n"
        "def unavailable(): return 'no accelerator is plugged in'\n"
        "def parameters(): return ()\n"
        "def reject(settings, target, model): return None\n"
    )
    monkeypatch.syspath_prepend(str(site))
    plugins.names.cache_clear()
    yield "nowhere"
    plugins.names.cache_clear()


def test_a_backend_that_is_not_here_loses_its_points_with_its_reason(write, broken_backend):
    spec = load(write("    openvino:", "    nowhere:"))
    removed = spec.space.grid().removed
    assert removed["no accelerator is plugged in"] > 0
    assert "backend nowhere: no accelerator is plugged in" in spec.notes


def test_no_backend_that_is_here_is_an_error(write, broken_backend):
    backends = "    onnxruntime:\n      level: [basic, all]\n    openvino:"
    path = write(backends, "    nowhere")
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.place == f"{path}:29: space.backend"
    assert "(nowhere: no accelerator is plugged in)" in caught.value.cause
    assert "add another: onnxruntime" in caught.value.remedy


def test_a_silent_backend_is_every_one_that_is_here(write, broken_backend):
    spec = load(
        write("  backend:\n    onnxruntime:\n      level: [basic, all]\n    openvino:\n", "")
    )
    assert list(spec.resolved["space"]["backend"]) == ["onnxruntime", "openvino", "torch"]
    assert "backend nowhere: no accelerator is plugged in" in spec.notes
