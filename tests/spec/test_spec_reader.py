"""What the reader makes of YAML, and what it refuses."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import SpecError
from autotune.spec import dump, load
from autotune.spec.reader import parse, read

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text()
    | st.floats(-1e200, 1e200),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_what_is_dumped_reads_back_as_it_was(data):
    text = dump(data)
    back = parse(text, "x.yaml").data
    assert back == data
    assert dump(back) == text  # also in kind: True is not 1, 1 is not 1.0


@given(st.text())
def test_any_text_is_read_or_refused_in_our_words(text):
    got = _document_or_error(text)
    if isinstance(got, SpecError):
        assert got.place.startswith("x.yaml")
        assert got.remedy
    else:
        assert got.source == "x.yaml"


def _document_or_error(text):
    try:
        return parse(text, "x.yaml")
    except SpecError as error:
        return error


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-3", 0.003), ("6E5", 600000.0), ("1.5", 1.5), (".5", 0.5), ("-2", -2), ("+4", 4),
        ("0", 0), ("1:30", "1:30"), ("0x1f", "0x1f"), ("010", "010"), ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"), (".nan", ".nan"), (".inf", ".inf"), ("true", True),
        ("off", False), ("'off'", "off"), ("~", None), ("1e", "1e"), ("e3", "e3"), ("y", "y"),
    ],
)  # fmt: skip
def test_scalars(text, value):
    read_value = parse(f"key: {text}", "x.yaml").data["key"]
    assert read_value == value
    assert type(read_value) is type(value)


def test_every_value_knows_its_line():
    document = parse("a: 1\nb:\n  c:\n    - 1\n    - {d: 2}\n", "x.yaml")
    assert document.place(("a",)) == "x.yaml:1: a"
    assert document.place(("b", "c")) == "x.yaml:3: b.c"
    assert document.place(("b", "c", 1, "d")) == "x.yaml:5: b.c[1].d"
    assert document.place(("b", "missing", "deep")) == "x.yaml:2: b.missing.deep"


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "place", "cause", "remedy"),
    [
        ("a: [1, 2\nb: 3", "x.yaml:2", "not YAML", "the line reads: b: 3"),
        ("a: 1\n\tb: 2", "x.yaml:2", "not YAML", "the line reads: b: 2"),
        ("a: b: c", "x.yaml:1", "not YAML: mapping values are not allowed", "reads: a: b: c"),
        ("slo:\n- accuracy: >= 1", "x.yaml:2", "not YAML", "a limit is a sentence"),
        ("a: *nothing", "x.yaml:1", "undefined alias", "the line reads: a: *nothing"),
        ("a: 1\n---\nb: 2", "x.yaml:2", "expected a single document", "---"),
        ("a: 1\nb: \x00", "x.yaml:2", "character '\\x00' is not allowed", "remove it"),
        ("a: 1\na: 2", "x.yaml:2: a", "'a' is given twice", "first given on line 1"),
        ("s: {a: 1, 'a': 2}", "x.yaml:1: s.a", "'a' is given twice", "keep one"),
        ("? [a]\n: 1", "x.yaml:1", "a key must be a word", "key: value"),
        ("a: !!set {b}", "x.yaml:1: a", "tag '!!set' is not allowed", "remove the tag"),
        ("a: !mine b", "x.yaml:1: a", "tag '!mine' is not allowed", "remove the tag"),
        ("a: !!int b", "x.yaml:1: a", "'b' is not a usable number", "finite"),
        ("a: " + "9" * 5000, "x.yaml:1: a", "is not a usable number", "finite"),
        (BOMB, "x.yaml", "expands to more than 20000 values", "fewer aliases"),
        ("a: &a [*a]", "x.yaml", "nested more than 20 levels", "alias that holds itself"),
        ("[" * 100_000, "x.yaml", "nested more than 20 levels", "alias"),
    ],
)
def test_what_is_refused(text, place, cause, remedy):
    with pytest.raises(SpecError) as caught:
        parse(text, "x.yaml")
    assert caught.value.place == place
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


def test_a_tag_that_would_run_code_never_runs(tmp_path: Path):
    path, witness = tmp_path / "space.yaml", tmp_path / "witness"
    path.write_text(f"name: x\nseed: !!python/object/apply:os.system ['touch {witness}']\n")
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.place == f"{path}:2: seed"
    assert "tag '!!python/object/apply:os.system' is not allowed" in caught.value.cause
    assert "never runs code" in caught.value.remedy
    assert not witness.exists()


@pytest.mark.parametrize(
    ("content", "line", "cause", "remedy"),
    [
        (b"", "", "the file is empty", "start from a ready space file"),
        (b"# nothing but words\n", "", "the file is empty", "start from a ready space file"),
        (b"- a\n- b\n", ":1", "the top level is a list, not a mapping", "start from"),
        (b"just words", ":1", "the top level is 'just words', not a mapping", "start from"),
        (b"name: x\nseed: \xff\n", ":2", "byte 0xff is not UTF-8 text", "save the file as UTF-8"),
        (b"#" * 1_000_001, "", "1000001 bytes are too many", "below 1000000 bytes"),
    ],
)
def test_files_that_hold_no_spec(tmp_path, content, line, cause, remedy):
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.place == f"{path}{line}"
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(SpecError) as missing:
        load(tmp_path / "absent.yaml")
    assert missing.value.place == str(tmp_path / "absent.yaml")
    assert missing.value.cause == "there is no such file"
    assert "give the path" in missing.value.remedy
    (tmp_path / "space.yaml").write_text("name: x")
    with pytest.raises(SpecError) as directory:
        load(tmp_path)
    assert directory.value.place == str(tmp_path)
    assert "a folder, not a space file" in directory.value.cause
    assert directory.value.remedy == f"did you mean '{tmp_path / 'space.yaml'}'?"


def test_a_byte_order_mark_is_no_trouble(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read(path).data == {"name": "x"}
