import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from report.example import example

from autotune.errors import MachineError
from autotune.runfolder import front, table, write_tables
from autotune.space import Configuration
from autotune.trial import Completed, Estimate, Measurement, Trial

RUN = example(60)
HEAD = ["trial", "outcome", "reason", "origin", "on_front"]
FIGURES = [
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "latency_p50_ms",
    "latency_p50_ms_low",
    "latency_p50_ms_high",
    "latency_p90_ms",
    "latency_p99_ms",
    "latency_p99_ms_low",
    "latency_p99_ms_high",
    "throughput_per_s",
    "cost_usd_per_million",
    "size_bytes",
    "parameters",
    "macs",
    "sparsity",
    "memory_peak_bytes",
    "load_seconds",
    "stage_seconds",
]


def test_columns_come_in_their_order() -> None:
    columns = list(table(RUN).columns)
    knobs = [c for c in columns if c.startswith("knob.")]
    assert columns == HEAD + knobs + FIGURES
    assert knobs[:4] == ["knob.backend", "knob.precision", "knob.batch", "knob.threads"]
    assert {name for t in RUN.trials for name in t.configuration} == {k[5:] for k in knobs}


def test_a_row_says_what_its_trial_says() -> None:
    rows = table(RUN)
    assert len(rows) == 60
    for trial, (_, row) in zip(RUN.trials, rows.iterrows(), strict=True):
        assert row["trial"] == trial.number
        assert row["knob.batch"] == trial.configuration["batch"]
        assert row["stage_seconds"] == pytest.approx(sum(trial.stage_seconds.values()))
        assert pd.isna(row["knob.ptq.samples"]) == ("ptq.samples" not in trial.configuration)
        if trial.measurement is None:
            assert pd.isna(row["accuracy"])
            assert row["reason"]
        else:
            assert row["accuracy"] == trial.measurement["accuracy"]
            assert row["latency_p99_ms"] == trial.measurement["latency_p99_ms"]


def test_an_unfinished_trial_and_a_foreign_column_have_their_place() -> None:
    measured = Completed(Measurement({"energy_j": Estimate(2.0), "accuracy": Estimate(0.5)}))
    more = (
        Trial(60, Configuration(()), "sampler"),
        Trial(61, Configuration(()), "sampler", measured),
    )
    rows = table(dataclasses.replace(RUN, trials=RUN.trials + more))
    assert list(rows.columns)[-2:] == ["energy_j", "stage_seconds"]
    assert rows["outcome"].iloc[60] == "unfinished"
    assert rows["energy_j"].iloc[61] == 2.0


def test_the_front_is_what_nothing_completed_dominates() -> None:
    best = front(RUN)
    done = {t.number: t.measurement for t in RUN.trials if t.measurement is not None}
    cells = {
        n: (-m["accuracy"], m["latency_p50_ms"], m["cost_usd_per_million"]) for n, m in done.items()
    }
    beaten = {
        n
        for n, a in cells.items()
        if any(b != a and all(x <= y for x, y in zip(b, a, strict=True)) for b in cells.values())
    }
    assert best == set(done) - beaten
    assert set(table(RUN).query("on_front")["trial"]) == best


def test_without_a_price_the_front_is_over_what_was_measured() -> None:
    assert front(example(30, priced=False))


def test_no_trial_completed_no_front() -> None:
    empty = dataclasses.replace(RUN, trials=())
    assert front(empty) == frozenset()
    assert list(table(empty).columns) == HEAD + FIGURES


def test_mixed_values_of_a_knob_become_text() -> None:
    points = [Configuration((("k", value),)) for value in (1, "auto", True)]
    trials = tuple(Trial(i, point, "sampler") for i, point in enumerate(points))
    rows = table(dataclasses.replace(RUN, trials=trials))
    assert list(rows["knob.k"]) == ["1", "auto", "True"]


def test_the_files_hold_the_table(tmp_path: Path) -> None:
    write_tables(RUN, tmp_path)
    rows = table(RUN)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "trials.parquet"), rows)
    assert list(pd.read_csv(tmp_path / "trials.csv").columns) == list(rows.columns)
    assert set(pd.read_csv(tmp_path / "pareto.csv")["trial"]) == front(RUN)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "pareto.csv",
        "trials.csv",
        "trials.parquet",
    ]


def test_a_full_disk_leaves_the_old_tables(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full to write to")
    write_tables(RUN, tmp_path)
    before = (tmp_path / "trials.csv").read_bytes()
    from autotune.runfolder.tables import _atomically

    with pytest.raises(MachineError, match="full"):
        _atomically(tmp_path / "trials.csv", lambda _: full.write_bytes(b"x" * 99_999))
    assert (tmp_path / "trials.csv").read_bytes() == before
