"""What is told of a run whose limits were lifted, and of what failed."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from report.example import SPEC, events

from autotune import api
from autotune.cli import group, show
from autotune.cli.terminal import settings, told
from autotune.errors import SpecError
from autotune.runfolder import JOURNAL, encode_outcome
from autotune.runfolder import SPEC as SPEC_FILE
from autotune.search.estimate import Estimate
from autotune.search.session import Opening
from autotune.spec import dump
from autotune.store import journal
from autotune.store.journal import Journal
from autotune.trial import Failed


def write(folder: Path, slo: list[str], *more) -> api.Run:
    """A run that picked trial 0 under the limits that it had at the time."""
    folder.mkdir()
    (folder / SPEC_FILE).write_text(dump({**SPEC, "slo": slo}))
    with Journal(folder / JOURNAL) as journal:
        for event in [*events(12, pick=0), *more]:
            journal.append(event)
    return api.Run(folder)


def test_limits_that_were_lifted_leave_no_pick(tmp_path, capsys):
    run = write(tmp_path / "r", [])
    show.result(run, quiet=False)
    told = capsys.readouterr()
    assert "pick trial" not in told.out
    assert "no longer in the store" not in told.err
    assert show.exit_code(run) == 0
    assert show.record(run)["pick"] is None


def test_limits_that_stand_keep_theirs(tmp_path, capsys):
    run = write(tmp_path / "r", ["latency_p50 <= 100ms"])
    show.result(run, quiet=False)
    assert "pick trial" in capsys.readouterr().out
    assert show.record(run)["pick"]["trial"] == 0


def test_a_pick_tells_the_size_of_its_network(tmp_path, capsys):
    show.result(write(tmp_path / "r", ["accuracy >= baseline", "minimize size"]), quiet=False)
    told = capsys.readouterr().out
    assert "12,690,000" in told
    assert "sparsity" not in told  # none of it


def test_a_page_of_a_reason_is_cut_for_the_terminal(tmp_path, capsys):
    reason = "no operator aten::unfold\n" + "a hint that nobody reads\n" * 90
    settings = {"batch": 1, "backend": "torch"}
    failures = [
        event
        for number in (12, 13, 14, 15, 16)
        for event in (
            {"event": "trial", "number": number, "origin": "sampler", "settings": settings},
            {
                "event": "outcome",
                "number": number,
                "outcome": encode_outcome(Failed("export", reason)),
            },
        )
    ]
    show.result(write(tmp_path / "r", [], *failures), quiet=True)
    told = capsys.readouterr().err
    assert "export: no operator aten::unfold" in told
    assert "more in the report" in told
    assert len(told) < 600


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [("--max-accuracy-drop", "1", "write 1pt"), ("--min-accuracy", "98", "write 98%")],
)
def test_pick_refuses_a_share_that_was_meant_as_points(tmp_path, option, value, remedy):
    run = write(tmp_path / "r", [])
    asked = CliRunner().invoke(group, ["pick", str(run.folder), option, value])
    assert isinstance(asked.exception, SpecError)
    assert asked.exception.place == option
    assert remedy in asked.exception.remedy


def test_a_pick_against_a_disturbed_baseline_warns(tmp_path, capsys):
    def noisy(event):
        if event["event"] != "outcome" or event["number"] > 4:
            return event
        facts = {**event["outcome"]["facts"], "noisy": True}
        return {**event, "outcome": {**event["outcome"], "facts": facts}}

    run = write(tmp_path / "r", ["latency_p50 <= 100ms"])
    told = [noisy(event) for event in journal.read(run.folder / JOURNAL)]
    (run.folder / JOURNAL).unlink()
    with Journal(run.folder / JOURNAL) as fresh:
        for event in told:
            fresh.append(event)
    show.result(run, quiet=False)
    out = " ".join(capsys.readouterr().out.split())
    assert "warning: the baseline, trial 3, was measured while something else ran" in out


def test_of_what_cannot_be_counted_a_sample_is_told(tmp_path, capsys):
    spec = SimpleNamespace(name="large", notes=(), budget=SimpleNamespace(seconds=None), space=None)
    one = Estimate(1, 1, 30.0)
    ahead = Opening(spec, tmp_path, None, {"no such kernels": 700}, (), one, 0, 2000)
    show.opening(ahead)
    told = capsys.readouterr().err
    assert "large: more configurations than can be counted" in told
    assert "of 2,000 drawn at random 700 cannot run:" in told
    assert "700  no such kernels" in told
    assert "1 trial in any time; expected: up to 30s, 1 training\n" in told
    show.opening(replace(ahead, size=1, removed={"why": 1}, drawn=0))
    told = capsys.readouterr().err
    assert "large: 1 configuration\n  1 combination removed:" in told


def test_a_pick_is_told_by_what_is_searched():
    space = {
        "batch": 1,
        "threads": 1,
        "student": {"width": [16, 8], "depth": 2},
        "prune": {"ratio": {"low": 0.1, "high": 0.5}},
        "backend": {"openvino": {"execution_mode": ["accuracy", "performance"], "hint": "latency"}},
    }
    configuration = {
        "batch": 1,
        "threads": 1,
        "precision": "int8",
        "backend": "openvino",
        "student.width": 8,
        "student.depth": 2,
        "prune.ratio": 0.3,
        "openvino.execution_mode": "accuracy",
        "openvino.hint": "latency",
        "target": "edge",
    }
    words = settings(told(configuration, space))
    assert words == (
        "openvino int8 batch=1 student.width=8 prune.ratio=0.3 openvino.execution_mode=accuracy "
        "target=edge"
    )


def test_a_pick_in_python_refuses_it_too(tmp_path):
    run = write(tmp_path / "r", [])
    with pytest.raises(SpecError, match="without a unit is 100 points"):
        run.pick("accuracy >= baseline - 1")
    assert run.pick("accuracy >= baseline - 100pt", "minimize size").trial >= 0
