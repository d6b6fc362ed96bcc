"""The three ways to a student in the space file: arguments, another factory, a shrunk copy."""

import dataclasses

import pytest

from autotune.errors import SpecError
from autotune.spec import load, schema
from autotune.task import CodeRef
from autotune.techniques import distill

WIDTHS = "    width: [16, 8]\n"


@pytest.fixture
def student(folder, write):
    """Load the base file with these lines as its section ``student``."""
    task = folder / "task.py"
    task.write_text(f"{task.read_text()}\nfrom models import large\nclass Small: ...\nWIDTH = 3\n")

    def loaded(*lines):
        return load(write(WIDTHS, "".join(f"    {line}\n" for line in lines)))

    return loaded


def students(spec):
    """The different settings of the section, without its prefix."""
    found = []
    for point in spec.space.grid().points:
        own = {k.split(".")[1]: v for k, v in point.items() if k.startswith("student.")}
        if own not in found:
            found.append(own)
    return found


def test_a_section_that_names_arguments_alone_searches_them_alone(student):
    fixed = {"factory": "build_model", "depth": 2, "shrink": 0.0}
    assert students(student("width: [16, 8]")) == [{**fixed, "width": 16}, {**fixed, "width": 8}]


def test_the_given_factorys_words_exist_only_where_it_builds_the_student(student):
    spec = student("width: [16, 8]", "factory: [build_model, Small, large]", "shrink: [0, 0.5]")
    found = students(spec)
    own = [s for s in found if s["factory"] == "build_model"]
    assert [s for s in found if s not in own] == [{"factory": "Small"}, {"factory": "large"}]
    assert sorted((s["width"], s["shrink"]) for s in own) == [(8, 0), (8, 0.5), (16, 0), (16, 0.5)]
    assert all(s.get("round_to") == (8 if s["shrink"] else None) for s in own)


def test_what_teaches_exists_where_there_is_a_student(student):
    spec = student("factory: [build_model, Small]", "shrink: [0, 0.5]")
    for point in spec.space.grid().points:
        given = point["student.factory"] == "build_model" and point["student.shrink"] == 0
        assert ("distill.hint" in point) != given


@pytest.mark.parametrize(
    ("lines", "place", "cause", "remedy"),
    [
        (["factory: Smal"], "factory", "'Smal' is not a factory", "did you mean 'Small'?"),
        (["factory: [build_model, WIDTH]"], "factory[1]", "'WIDTH' is not a factory", "Small"),
        (["shrink: 1"], "shrink", "1.0 is out of bounds", "at most 0.95"),
        (["width: 8", "round_to: 4"], "round_to", "student.shrink is not 0", "student.shrink"),
        (["factory: Small", "width: 8"], "width", "student.factory is build_model", "or remove"),
        (["hight: 8"], "hight", "unknown key", "known: factory, width, depth, shrink, round_to"),
        (["hight: 8"], "hight", "unknown key", "argument of the factory: add it to model.args"),
    ],
)
def test_a_wrong_word_is_told(lines, place, cause, remedy, student):
    with pytest.raises(SpecError) as caught:
        student(*lines)
    assert caught.value.place.endswith(f": space.student.{place}")
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("word", ["factory", "shrink", "round_to"])
def test_an_argument_may_not_have_the_name_of_another_word(word, write):
    path = write("args: {width: 16, depth: 2}", f"args: {{width: 16, {word}: 2}}")
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.place == f"model.args.{word}"
    assert f"'{word}'" in caught.value.cause
    assert "rename" in caught.value.remedy


def test_a_model_whose_file_is_not_here_may_have_any_factory(student):
    model = student("width: 8").model
    far = dataclasses.replace(model, factory=CodeRef("elsewhere.py", "build"))
    by_name = {p.name: p for p in distill.parameters(far)["student"]}
    assert (by_name["factory"].default, by_name["factory"].choices) == ("build", ())


def test_the_schema_takes_the_factorys_own_words_and_no_others_elsewhere():
    sections = schema()["properties"]["space"]["properties"]
    assert {"factory", "shrink", "round_to"} <= set(sections["student"]["properties"])
    assert sections["student"]["additionalProperties"] is True
    closed = [name for name, s in sections.items() if s.get("additionalProperties") is False]
    assert {"prune", "distill", "finetune", "ptq"} <= set(closed)
