"""What would fail every trial is told before the first: labels, a training, calibration samples."""

import shutil
from dataclasses import asdict

import pytest

from autotune.engine import intake
from autotune.engine.plan import Needs
from autotune.errors import TaskError
from autotune.task import CodeRef, ModelSource

TOP1 = {"accuracy": {"plugin": "top1"}}
ALL = Needs(trains=True, train=True, calibration=32)
OTHER = "\n\ndef other():\n    d = data()\n    {}\n    return d\n"
FROZEN = "\n\ndef frozen(width):\n    return build_model(width).requires_grad_(False)\n"


@pytest.fixture
def folder(tiny, tmp_path):
    shutil.copy(tiny / "task.py", tmp_path)
    return tmp_path


def take(folder, code, needs, factory="build_model", data="other", train=None):
    path = folder / "task.py"
    path.write_text(path.read_text() + code)
    own = CodeRef(str(path), train) if train else None
    model = ModelSource(CodeRef(str(path), factory), {"width": 16}, train=own)
    return intake._take_in(
        {
            "model": asdict(model),
            "data": asdict(CodeRef(str(path), data)),
            "metrics": TOP1,
            "store": str(folder / "store"),
            "needs": asdict(needs),
        }
    )


@pytest.mark.parametrize(
    ("change", "cause", "place"),
    [
        ("d.test[1][90] = 77", "top1 needs labels from 0 to 2, not 0 to 77", "metrics.accuracy"),
        ("d.train = (d.train[0], d.train[1][:, None])", "cannot be trained on the part", "task"),
        ("d.train[1][150] = 77", "cannot be trained on the part 'train'", "task"),
        ("d.train = None", "the part 'train' is missing", "task"),
        ("d.calibration = d.calibration[:31]", "asks for 32 calibration samples", "task"),
        ("d.calibration = None", "the part 'calibration' has 0", "task"),
    ],
)
def test_data_that_would_fail_every_trial(folder, change, cause, place):
    with pytest.raises(TaskError) as caught:
        take(folder, OTHER.format(change), ALL)
    assert cause in caught.value.cause
    assert place in caught.value.place
    assert caught.value.remedy


def test_a_network_that_cannot_be_trained(folder):
    with pytest.raises(TaskError, match="cannot be trained"):
        take(folder, FROZEN, ALL, "frozen", "data")


def test_it_need_not_be_where_nothing_trains(folder):
    assert take(folder, FROZEN, Needs(), "frozen", "data")["facts"]["epoch_s"] == 0


OWN = "\n\ndef fit(network, lesson):\n    {}\n"


def test_the_users_own_training_is_tried_for_one_epoch_on_a_few_samples(folder):
    seen = "assert (lesson.epochs, len(lesson.y), lesson.teacher_logits.shape) == (1, 64, (64, 3))"
    facts = take(folder, OWN.format(seen), ALL, data="data", train="fit")["facts"]
    assert facts["epoch_s"] > 0


def test_one_that_is_broken_is_refused_before_the_search_with_its_line(folder):
    line = len((folder / "task.py").read_text().splitlines()) + 4
    with pytest.raises(TaskError, match=r"the training fit\(\) raised AttributeError: .*epoch'"):
        take(folder, OWN.format("lesson.epoch"), ALL, data="data", train="fit")
    with pytest.raises(TaskError) as caught:
        take(folder, "", ALL, data="data", train="fit")
    assert caught.value.place == f"{folder / 'task.py'}:{line}"


def test_one_that_is_no_function_is_refused(folder):
    with pytest.raises(TaskError, match="not callable"):
        take(folder, "\n\nfit = 3\n", ALL, data="data", train="fit")


def test_it_may_make_of_the_labels_what_it_likes(folder):
    change = OTHER.format("d.train[1][150] = 77")
    assert take(folder, change + OWN.format("pass"), ALL, train="fit")["facts"]["epoch_s"] > 0
