import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from autotune import slo
from autotune.pick import pick
from autotune.report import render
from autotune.report.compression import effects
from autotune.report.html import script_json
from autotune.runfolder import RunData, assemble
from autotune.space import Configuration
from autotune.trial import Completed, Estimate, Failed, Measurement, Trial
from report.example import SPEC, events, example, serving

EVIL = "</script><img src=x onerror=alert(1)>\u2028<!--"


class Elements(HTMLParser):
    """The tags of a page in order, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def picked(run: RunData) -> RunData:
    limits = slo.parse(((sentence, "") for sentence in run.slo), run.metrics)
    found = pick(run.trials, limits, slo.QUANTITIES["latency_p50"])
    checks = [dataclasses.asdict(check) for check in found.checks]
    return dataclasses.replace(run, pick={"trial": found.trial, "checks": checks})


def prose(page: str) -> str:
    """The page without its scripts and style, white space folded."""
    without = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(Elements(without).text.split())


def data(page: str) -> dict[str, object]:
    found = re.search(r'id="run-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return dict(json.loads(found.group(1)))


def test_the_headline_is_the_pick_against_the_baseline_of_its_batch() -> None:
    run = picked(example())
    assert run.pick is not None
    best = run.trials[run.pick["trial"]]
    given = next(
        t
        for t in run.trials
        if t.origin == "baseline" and t.configuration["batch"] == best.configuration["batch"]
    )
    assert best.measurement is not None
    assert given.measurement is not None
    speedup = given.measurement["latency_p50_ms"] / best.measurement["latency_p50_ms"]
    lost = 100 * (given.measurement["accuracy"] - best.measurement["accuracy"])
    text = prose(render(run))
    assert (
        f"{speedup:.0f} times faster than the model as given, with {lost:.2f} points less" in text
    )
    assert f"Trial {best.number}, picked under: {'; '.join(run.slo)}" in text
    assert "not slower than the baseline" in text


def test_the_same_run_gives_the_same_page() -> None:
    assert render(example(20)) == render(example(20))


def test_the_page_is_small_and_names_nothing_to_fetch() -> None:
    page = render(picked(example()))
    elements = Elements(page)
    assert len(page) < 2_500_000
    assert not {"link", "img", "iframe", "object", "embed"} & set(elements.tags)
    assert not {"src", "srcset", "href", "action"} & {name for name, _ in elements.attributes}
    assert "default-src 'none'" in page


def test_what_a_user_wrote_is_text_and_never_markup() -> None:
    configuration = Configuration((("backend", EVIL), ("batch", 1), (EVIL, EVIL)))
    measured = Measurement({EVIL: Estimate(0.9), "latency_p50_ms": Estimate(1.0)}, {EVIL: EVIL})
    trials = (
        Trial(0, configuration, "baseline", Completed(measured), {EVIL: 1.0}, (EVIL,)),
        Trial(1, configuration, "sampler", Failed(EVIL, EVIL, EVIL)),
    )
    run = dataclasses.replace(
        example(1),
        name=EVIL,
        trials=trials,
        metrics={EVIL: "max"},
        slo=(),
        spec={"name": EVIL, EVIL: EVIL},
        environment={EVIL: EVIL, "libraries": {EVIL: EVIL}},
        space={"size": 2, "removed": {EVIL: 1}, "notes": [EVIL]},
        pick={"trial": 0, "message": EVIL, "checks": [CHECK]},
    )
    page = render(run)
    elements = Elements(page)
    assert "img" not in elements.tags
    assert elements.tags.count("script") == 3
    assert EVIL not in page
    assert data(page)["knobs"] == ["backend", "batch", EVIL]
    assert prose(page).count("onerror=alert(1)") > 10


CHECK = {"limit": EVIL, "met": False, "detail": EVIL, "value": 1.0, "bound": 1.0}


def test_json_for_a_script_comes_back_as_it_was() -> None:
    text = script_json({EVIL: [1.5, None, EVIL, "&amp;"]})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {EVIL: [1.5, None, EVIL, "&amp;"]}


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        script_json(float("nan"))


def test_every_trial_is_in_the_data_with_its_knobs_and_figures() -> None:
    run = example(30)
    rows = data(render(run))["trials"]
    assert isinstance(rows, list)
    for trial, row in zip(run.trials, rows, strict=True):
        assert row["k"] == dict(trial.configuration)
        if trial.measurement is not None:
            accuracy = trial.measurement.values["accuracy"]
            assert row["v"]["accuracy"] == [accuracy.value, accuracy.low, accuracy.high]


def test_limits_that_the_reader_may_change_are_apart_from_the_rest() -> None:
    sentences = ["latency_p99 <= 2ms", "accuracy >= baseline - 1pt", "size <= 1MB", "minimize cost"]
    run = assemble(Path("r"), {**SPEC, "slo": sentences}, example(8).events)
    found = data(render(run))
    limits = found["limits"]
    assert isinstance(limits, dict)
    assert limits["p50"] is None
    assert limits["p99"] == 2.0
    assert limits["drops"] == {"accuracy": 1.0}
    assert [limit["text"] for limit in limits["kept"]] == ["size <= 1MB"]
    assert found["objective"] == "cost_usd_per_million"


def test_what_failed_is_grouped_by_its_reason() -> None:
    run = example(200)
    reasons = [t.outcome.reason for t in run.trials if isinstance(t.outcome, Failed)]
    page = render(run)
    text = prose(page)
    assert len(reasons) > 3
    assert text.count(reasons[0]) == 1
    assert f"failed {len(reasons)} {reasons[0]}" in text
    assert "even the best accuracy of a relative" in text


def test_the_account_of_time_space_and_machine_is_there() -> None:
    text = prose(render(example()))
    for words in (
        "131 executed for 288 needed, 2.2 times fewer",
        "11 executed for 41 needed, 3.7 times fewer",
        "Overhead per trial 64 ms",
        "512 onnxruntime has no bf16 kernels on this processor",
        "one lane core, so 1 is the only value",
        "AMD EPYC 9R14",
        "openvino 2026.4.1",
        "seed 0",
        "memory_bytes 16.0 GB",
        "local lane_cores 1, price_per_hour 0.1",
        "500 of them, so one is worth 0.200 points",
    ):
        assert words in text, words
    assert text.count("avx512_vnni") == 1
    assert text.count("seed 0") == 1


def test_shared_stages_show_what_they_saved() -> None:
    text = prose(render(example(3)))
    assert "data 0 3 0 s 1.20 s" in text


def test_no_trial_completed() -> None:
    failed = Trial(0, Configuration((("batch", 1),)), "baseline", Failed("train", "no memory"))
    text = prose(render(dataclasses.replace(example(1), trials=(failed,))))
    assert "No trial has completed." in text
    assert "train: no memory" in text


def test_a_run_that_has_just_begun() -> None:
    run = assemble(Path("r"), {"name": "fresh"}, [])
    text = prose(render(run))
    assert "0 trials" in text
    assert "Ended not yet" in text


def test_nothing_fits() -> None:
    missed = {"trial": None, "message": "trial 3 comes nearest: 2.4 ms against 2 ms"}
    text = prose(render(dataclasses.replace(example(9), pick=missed)))
    assert "No configuration meets the limits." in text
    assert "trial 3 comes nearest: 2.4 ms against 2 ms" in text


def test_no_limits_no_pick() -> None:
    run = dataclasses.replace(example(9), slo=())
    assert re.search(r"\d+ configurations? (is|are) on the front", prose(render(run)))


def test_the_baseline_itself_can_be_the_pick() -> None:
    run = dataclasses.replace(example(9), pick={"trial": 0})
    assert "nothing beats the model as given" in prose(render(run))


def ending(error: str) -> RunData:
    failed = Trial(1, Configuration((("batch", 1),)), "sampler", Failed("export", error))
    run = example(9)
    return dataclasses.replace(run, trials=(run.trials[0], failed))


def test_a_reason_is_told_whole_and_keeps_its_lines() -> None:
    page = render(ending("cannot export aten::unfold\nin layer blocks.3.mixer"))
    assert "export: cannot export aten::unfold\nin layer blocks.3.mixer <" in page
    assert "The whole reason" not in page


def test_a_very_long_reason_begins_at_once_and_is_there_in_full() -> None:
    error = "training diverged in epoch 3: " + "loss is nan, " * 200
    page = render(ending(error))
    assert "The whole reason" in page
    cell = page.split('<td class="reason">', 1)[1].split("<span", 1)[0]
    assert cell.startswith("export: training diverged in epoch 3")
    assert 500 < len(cell) < 620
    assert error in page


def test_limits_that_were_lifted_leave_no_pick() -> None:
    run = assemble(Path("runs"), {**SPEC, "slo": []}, events(pick=0))
    lifted = prose(render(run))
    assert "No limits were set, so none of them is picked" in lifted
    assert "picked under" not in lifted


def test_a_pick_that_was_measured_in_noise_says_so() -> None:
    run = picked(example())
    assert run.pick is not None
    assert "Beware" not in prose(render(run))
    doubted = {**run.pick, "warnings": ["trial 7, was measured while something else ran"]}
    text = prose(render(dataclasses.replace(run, pick=doubted)))
    assert "Beware: trial 7, was measured while something else ran." in text


def test_a_servers_report_speaks_of_rates_and_of_no_single_stream() -> None:
    run = picked(serving())
    assert run.pick is not None
    best = next(t for t in run.trials if t.number == run.pick["trial"])
    given = run.trials[0]
    assert best.measurement is not None
    assert given.measurement is not None
    page = render(run)
    text, told = prose(page), data(page)
    ratio = best.measurement["server_rate_per_s"] / given.measurement["server_rate_per_s"]
    assert f"{ratio:.2g} times the requests a second of the model as given" in text
    assert "each request answered by itself" in text
    assert "surely answered within 5.00 ms" in text
    assert "one request in flight" not in text
    assert told["figure"] == "server_rate_per_s"
    limits = told["limits"]
    assert (limits["p50"], limits["p99"]) == (None, None)
    assert [limit["text"] for limit in limits["kept"]] == ["latency_p99 <= 5ms"]
    none = next(t for t in told["trials"] if t["v"].get("server_rate_per_s", [1])[0] == 0)
    assert none["reason"].startswith("no rate meets p99 <= 5 ms")
    assert none["n"] != best.number


def test_what_batching_did_is_told_by_the_time_a_request_takes() -> None:
    told = [e for e in effects(serving(400)) if e.setting.startswith("server")]
    assert any("server" in effect.setting and effect.latency for effect in told)
    for effect in told:
        assert "batch 1" not in effect.place
        if effect.latency is not None:
            assert "a request by itself" in effect.sentence


def test_one_by_one_the_method_is_about_latency() -> None:
    text = prose(render(picked(example())))
    assert "one request in flight" in text
    assert "at equal batch" in text
    assert "server rate" not in text.lower()
