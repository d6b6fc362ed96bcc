from pathlib import Path
from typing import Any

import pytest
import yaml
from report.example import ENVIRONMENT, SPEC, events, example

from autotune.errors import RunFolderError
from autotune.runfolder import JOURNAL, assemble, read
from autotune.runfolder import SPEC as SPEC_FILE
from autotune.store.journal import Journal


def written(folder: Path) -> Path:
    (folder / SPEC_FILE).write_text(yaml.safe_dump(dict(SPEC)), encoding="utf-8")
    with Journal(folder / JOURNAL) as journal:
        for event in events(12, pick=5):
            journal.append(event)
    return folder


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = read(written(tmp_path))
    assert run.trials == example(12).trials
    assert run.name == "digits"
    assert run.environment == ENVIRONMENT
    assert run.space["size"] == 3612
    assert run.pick is not None
    assert run.pick["trial"] == 5
    assert run.summary["why"] == "budget"
    assert run.summary["trainings_executed"] == 11
    assert run.slo == tuple(SPEC["slo"])


def test_objectives_are_columns(tmp_path: Path) -> None:
    run = read(written(tmp_path))
    assert run.objectives == {
        "accuracy": "max",
        "latency_p50_ms": "min",
        "cost_usd_per_million": "min",
    }
    assert run.metrics == {"accuracy": "max"}


def test_the_last_pick_counts_and_a_running_run_has_none() -> None:
    run = example(8)
    assert run.pick is None
    assert example(8, pick=6).pick is not None


def test_limits_that_were_lifted_leave_no_pick() -> None:
    told = events(12, pick=5)
    assert assemble(Path(), SPEC, told).pick is not None
    assert assemble(Path(), {**SPEC, "slo": []}, told).pick is None
    none_completed: list[dict[str, Any]] = [
        {"event": "pick", "trial": None, "checks": [], "message": "no trial"}
    ]
    found = assemble(Path(), {**SPEC, "slo": []}, none_completed).pick
    assert found is not None
    assert found["trial"] is None


def test_a_run_without_events_has_no_trials(tmp_path: Path) -> None:
    (tmp_path / SPEC_FILE).write_text("name: empty\n", encoding="utf-8")
    (tmp_path / JOURNAL).write_bytes(b"")
    run = read(tmp_path)
    assert run.trials == ()
    assert run.summary == {"why": ""}


@pytest.mark.parametrize("missing", [SPEC_FILE, JOURNAL])
def test_a_folder_without_a_run_says_what_is_missing(tmp_path: Path, missing: str) -> None:
    (written(tmp_path) / missing).unlink()
    with pytest.raises(RunFolderError) as raised:
        read(tmp_path)
    assert missing in raised.value.cause
    assert raised.value.place == str(tmp_path)
    assert "autotune run" in raised.value.remedy


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a: [", "YAML"),
        ("- 1", "resolved"),
        ("metrics: {1: top1}", "'metrics' is"),
        ("objectives: 3", "'objectives' is 3"),
        ("slo: {a: b}", "'slo' is"),
        ("a: &a [*a]", "resolved"),
        ("a: [" * 2000, "YAML"),
    ],
)
def test_a_damaged_spec_is_named(tmp_path: Path, text: str, cause: str) -> None:
    (written(tmp_path) / SPEC_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(RunFolderError, match=cause) as raised:
        read(tmp_path)
    assert raised.value.place == str(tmp_path / SPEC_FILE)
