"""A whole run behind a dynamic batcher: every rate is measured under the limit, and costs."""

import json

import pytest

import autotune
from autotune.cli import show
from autotune.report import render

LIMIT_MS = 13.0
ASKED = {
    "scenario": "server",
    "objectives": {"accuracy": "max", "server_rate": "max", "cost": "min"},
    "slo": [f"latency_p99 <= {LIMIT_MS:g}ms", "accuracy >= 0.2"],
    "budget.trials": 3,
    "space.batch": 1,
    "space.server": {"max_batch": [1, 4], "max_queue_delay_ms": [0, 1]},
    "space.backend": ["onnxruntime"],
    "space.precision": ["fp32"],
}


@pytest.mark.slow
def test_a_run_behind_a_batcher_finds_rates_and_what_they_cost(tiny, tmp_path):
    text = (tiny / "space.yaml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith("  ptq:")]
    path = tiny / "serving.yaml"
    path.write_text("\n".join(kept) + "\n")
    run = autotune.run(path, out=tmp_path / "run", overrides=ASKED)
    data = run.data
    done = [t for t in data.trials if t.measurement is not None]
    assert done
    assert done[0].origin == "baseline"
    assert done[0].configuration["server.max_batch"] == 1
    price = autotune.load(path, ASKED).targets[0].lane_price_per_hour
    for trial in done:
        values, served = trial.measurement.values, trial.measurement.facts["server"]
        assert served["max_batch"] == trial.configuration["server.max_batch"]
        assert served["p99_limit_ms"] == LIMIT_MS
        rate = values["server_rate_per_s"].value
        if rate:
            assert values["latency_p99_ms"].high <= LIMIT_MS
            assert values["cost_usd_per_million"].value == pytest.approx(price / 3600 / rate * 1e6)
            assert trial.outcome.reason == ""
        else:  # a machine as busy as this: the reason is told, and nothing is made up
            assert trial.outcome.reason == served["reason"]
            assert "cost_usd_per_million" not in values
    assert "server rate" in render(data).lower()
    json.dumps(show.record(run))
    assert run.trials["server_rate_per_s"].notna().sum() == len(done)
