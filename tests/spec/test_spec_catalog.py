"""Every parameter that could be searched, with its owner and what the space makes of it."""

import pytest

from autotune import plugins
from autotune.contracts import SHARED
from autotune.spec import catalog, load


@pytest.fixture
def sections(write):
    return {s.name: s for s in catalog(load(write("batch: [1, 8]", "batch: [1, 8]")))}


@pytest.fixture
def entries(sections):
    return {e.name: e for s in sections.values() for e in s.entries}


def test_every_parameter_of_every_plugin_is_there_and_says_what_it_does(write):
    spec = load(write("batch: [1, 8]", "batch: [1, 8]"))
    found = {(s.kind, s.owner, e.name) for s in catalog(spec) for e in s.entries}
    for name in plugins.names("backends"):
        for p in plugins.load("backends", name).parameters():
            assert ("backend", name, f"{name}.{p.name}") in found
    for name in plugins.names("techniques"):
        for section, parameters in plugins.load("techniques", name).parameters(spec.model).items():
            for p in parameters:
                assert ("technique", name, f"{section}.{p.name}") in found
    for section, parameters in SHARED.items():
        for p in parameters:
            assert ("shared", "", f"{section}.{p.name}") in found
    assert {k.name for k in spec.space.knobs} <= {name for _, _, name in found}
    assert not [e.name for s in catalog(spec) for e in s.entries if not e.does]


def test_what_is_searched_pinned_left_and_absent_is_told_apart(entries):
    assert (entries["prune.ratio"].state, entries["prune.ratio"].values) == ("searched", "0.3, 0.5")
    assert (entries["distill.lr"].state, entries["distill.lr"].values) == ("pinned", "0.006")
    assert (entries["distill.alpha"].state, entries["distill.alpha"].values) == ("default", "0.3")
    assert (entries["weights.group"].state, entries["weights.group"].values) == ("absent", "")
    assert entries["distill.alpha"].legal == "a number from 0 to 1"
    assert entries["weights.group"].legal == "16, 32, 64, 128"


def test_what_all_of_a_section_have_in_common_is_said_once(sections, entries):
    assert sections["finetune"].where.startswith("prune.structure is ")
    assert {e.where for e in sections["finetune"].entries} == {""}
    assert sections["ptq"].where == ""
    assert entries["ptq.samples"].where == "precision is int8 or fp8"
    assert entries["ptq.scheme"].where == "precision is int8"
    assert sections["onnxruntime"].where == ""
    assert entries["onnxruntime.level"].where == ""
    assert entries["prune.structure"].where == ""
    fused = entries["onnxruntime.conv_fusion"].where
    assert "onnxruntime.level is" in fused
    assert "backend is" not in fused
    assert sections["weights"].where == "precision is int4_weights"


def test_an_onnx_model_says_why_techniques_are_out(write):
    old = "  factory: task.py:build_model\n  args: {width: 16, depth: 2}\n  weights: teacher.pt"
    path = write(old, "  onnx: model.onnx")
    text = path.read_text()
    start, end = text.index("  student:"), text.index("  precision:")
    path.write_text(text[:start] + text[end:])
    found = {s.name: s for s in catalog(load(path))}
    assert "trained" in found["prune"].missing
    assert found["onnxruntime"].missing == ""
