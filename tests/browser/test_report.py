import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report.example import SPEC, example, serving
from report.test_html import EVIL, picked

from autotune import slo
from autotune.errors import NothingFits
from autotune.pick import pick
from autotune.report import render
from autotune.report.compression import effects
from autotune.runfolder import RunData, assemble
from autotune.space import Configuration
from autotune.trial import Completed, Estimate, Failed, Measurement, Trial
from browser.chromium import CHROMIUM, Visit, visit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
Open = Callable[..., Visit]


@pytest.fixture
def browse(tmp_path: Path) -> Open:
    """Opens a run's report, and insists that nothing went wrong and nothing was fetched."""

    def browse(run: RunData, probe: str = "", before: str = "") -> Visit:
        seen = visit(render(run), tmp_path, probe, before)
        assert seen.problems == []
        assert seen.fetched == []
        return seen

    return browse


DRAWN = """
const points = (id) => $("#" + id).data.filter((t) => t.name === "trials" || t.text)
  .flatMap((t) => t.customdata);
return {
  latency: points("latency"), cost: points("cost"), space: points("space"),
  svg: document.querySelectorAll("#latency .scatterlayer .point").length,
  canvas: document.querySelectorAll("#space canvas").length,
  buttons: [...document.querySelectorAll(".modebar-btn")].map((b) => b.dataset.title),
  rows: $("#trials").tBodies[0].rows.length,
};
"""


def test_every_completed_trial_is_drawn(browse: Open) -> None:
    run = picked(example())
    seen = browse(run, '$("[data-value=all]").click(); await pause(500);' + DRAWN)
    done = [t.number for t in run.trials if t.measurement is not None]
    assert seen.charts == "drawn"
    for view in ("latency", "cost", "space"):
        assert sorted(seen.found[view]) == done
    assert seen.found["svg"] > len(done)
    assert seen.found["canvas"] > 0
    assert seen.found["rows"] == len(run.trials)


def test_no_button_offers_to_upload_the_chart(browse: Open) -> None:
    buttons = browse(example(9), DRAWN).found["buttons"]
    assert len(buttons) == 9
    assert not [b for b in buttons if "hare" in b or "loud" in b or "lotly" in b]


def test_latency_is_compared_at_the_batch_that_is_chosen(browse: Open) -> None:
    run = picked(example())
    seen = browse(run, '$("#batches [data-value=\\"1\\"]").click(); await pause(500);' + DRAWN)
    ones = [t.number for t in run.trials if t.measurement and t.configuration["batch"] == 1]
    assert sorted(seen.found["latency"]) == ones
    assert len(seen.found["cost"]) > len(ones)


LIVE = """
const now = () => $("#live").innerText;
const field = (name) => document.forms.limits.elements[name];
const first = now();
type(field("p99"), "0.0001");
const none = now();
document.forms.limits.reset();
await pause(200);
const again = now();
type(field("p99"), ""); type(field("drop 0"), "0"); type(field("objective"), "latency_p50_ms");
return { first, none, again, other: now() };
"""


def test_limits_changed_in_the_page_change_the_pick(browse: Open) -> None:
    run = picked(example())
    assert run.pick is not None
    found = browse(run, LIVE).found
    assert f"Trial {run.pick['trial']}\n" in found["first"]
    assert "Nothing fits" in found["none"]
    assert found["again"] == found["first"]
    loose = slo.parse((("accuracy >= baseline", ""),), run.metrics)
    fastest = pick(run.trials, loose, slo.QUANTITIES["latency_p50"])
    assert f"Trial {fastest.trial}\n" in found["other"]


def sentences(rng: random.Random, run: RunData) -> list[str]:
    served = "scenario" in run.spec
    speed, slowest = ("server_rate", 6) if served else ("throughput", 4)
    words = [
        f"latency_p99 <= {rng.uniform(0.1, slowest):.3f}ms",
        f"latency_p50 <= {rng.uniform(0.1, 4):.3f}ms",
        f"accuracy >= baseline - {rng.choice([0, 0.2, 0.4, 1, 2])}pt",
        f"accuracy >= baseline - {rng.uniform(0, 2):.2f}% of baseline",
        f"accuracy >= {rng.uniform(0.95, 1):.3f}",
        f"{speed} >= {rng.uniform(100, 9000):.0f}",
        f"size <= {rng.randint(150, 800)}kB",
    ]
    objective = rng.choice(["minimize cost", "minimize latency_p50", "minimize latency_p99"])
    objective = rng.choice([objective, "maximize accuracy", f"maximize {speed}"])
    return [*rng.sample(words, rng.randint(0, 4)), objective]


def answer(run: RunData, wanted: slo.SLO) -> list[Any]:
    """[the pick, None] or [None, the nearest miss], as autotune.pick has it."""
    try:
        return [pick(run.trials, wanted, slo.QUANTITIES["latency_p50"]).trial, None]
    except NothingFits as nothing:
        return [None, nothing.miss.trial]


@pytest.mark.parametrize("run", [example(80, seed=3), serving(80, seed=3)], ids=["one", "server"])
def test_the_page_picks_as_autotune_does(browse: Open, run: RunData) -> None:
    rng = random.Random(7)
    parsed = [slo.parse(((s, "") for s in sentences(rng, run)), run.metrics) for _ in range(300)]
    asked = [
        {
            "limits": [
                {
                    "column": limit.quantity.column,
                    "at_most": limit.at_most,
                    "bound": limit.bound,
                    "relative": limit.relative,
                }
                for limit in wanted.limits
            ],
            "objective": vars(wanted.objective),
        }
        for wanted in parsed
    ]
    probe = f"""
      const trials = JSON.parse($("#run-data").textContent).trials;
      return {json.dumps(asked, default=dict)}.map(({{ limits, objective }}) => {{
        const found = repick(trials, limits, objective);
        return [found.pick ? found.pick.n : null, found.miss ? found.miss.trial.n : null];
      }});"""
    expected = [answer(run, wanted) for wanted in parsed]
    assert browse(run, probe).found == expected
    assert len({best for best, _ in expected}) > 6
    assert any(best is None for best, _ in expected)


TABLE = """
const body = $("#trials").tBodies[0];
const shown = () => [...body.rows].map((r) => Number(r.dataset.trial));
const head = (label) => [...document.querySelectorAll("#trials th")]
  .find((th) => th.innerText.startsWith(label));
type($("#filter"), "openvino batch=1 completed");
const filtered = shown();
type($("#filter"), "");
head("Latency p50").querySelector("button").click();
const fast = shown()[0], sorted = head("Latency p50").getAttribute("aria-sort");
body.rows[0].focus();
const press = (key) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
press("ArrowDown"); press("Enter");
await pause(300);
const chosen = $("#trials tr[aria-selected=true]").dataset.trial;
const ringed = $("#latency").data.find((t) => t.name === "selected").x.length;
const card = $("#selected").innerText;
return { filtered, fast, sorted, second: shown()[1], chosen, ringed, card };
"""


def test_the_table_filters_sorts_and_is_reached_by_keyboard(browse: Open) -> None:
    run = picked(example())
    found = browse(run, TABLE).found
    done = [t for t in run.trials if t.measurement is not None]
    assert found["filtered"] == [
        t.number
        for t in done
        if (t.configuration["backend"], str(t.configuration["batch"])[0]) == ("openvino", "1")
    ]
    by_speed = sorted(done, key=lambda t: t.measurement["latency_p50_ms"] if t.measurement else 0)
    assert [found["fast"], found["second"]] == [t.number for t in by_speed[:2]]
    assert found["sorted"] == "ascending"
    assert found["chosen"] == str(found["second"])
    assert found["ringed"] == 1
    assert f"Trial {found['second']}, completed" in found["card"]
    assert "kernels" in found["card"]


def test_a_click_on_a_point_shows_its_trial(browse: Open) -> None:
    probe = """
      $("#latency").emit("plotly_click", { points: [{ customdata: 2 }] });
      await pause(300);
      return [$("#selected").innerText, $("#trials tr[aria-selected=true]").dataset.trial];"""
    card, row = browse(example(), probe).found
    assert card.startswith("Trial 2, completed")
    assert row == "2"


SIZES = """
const at = (label) => [...document.querySelectorAll("#trials th")]
  .findIndex((th) => th.innerText.startsWith(label));
const first = $("#trials").tBodies[0].rows[0];
$("#trials tbody tr").click();
return {
  cells: ["Parameters", "MACs", "Zero"].map((label) => first.cells[at(label)].innerText),
  card: $("#selected").innerText,
  effects: document.querySelectorAll("#compression td.effect").length,
};
"""


def test_sizes_and_what_compression_did_are_shown(browse: Open) -> None:
    run = example(96)
    found = browse(run, SIZES).found
    assert found["cells"] == ["175 k", "12.7 M", "0.00 %"]
    assert "12.7 M" in found["card"]
    assert found["effects"] == len(effects(run)) > 3


def test_backends_and_precisions_can_be_hidden(browse: Open) -> None:
    run = example()
    probe = """
      $("[data-value=all]").click();
      for (const chip of document.querySelectorAll("#backends .chip")) {
        if (chip.innerText !== "openvino") chip.click();
      }
      await pause(500);"""
    found = browse(run, probe + DRAWN).found
    done = [t for t in run.trials if t.measurement is not None]
    kept = [t.number for t in done if t.configuration["backend"] == "openvino"]
    assert sorted(found["latency"]) == kept


def test_two_thousand_trials(browse: Open) -> None:
    probe = "const before = $('#trials').tBodies[0].rows.length; $('#more').click();"
    found = browse(
        picked(example(2000)), probe + DRAWN.replace("return {", "return { before,")
    ).found
    assert found["before"] == 200
    assert found["rows"] == 2000
    assert len(found["cost"]) > 1500


def test_one_trial(browse: Open) -> None:
    assert browse(example(1), DRAWN).found["latency"] == [0]


def test_no_trial_completed(browse: Open) -> None:
    failed = Trial(0, Configuration((("batch", 1),)), "baseline", Failed("train", "no memory"))
    seen = browse(
        dataclasses.replace(example(1), trials=(failed,)),
        "return [$('#no-charts').innerText, $('#trials').tBodies[0].innerText];",
    )
    assert seen.charts == "none"
    assert "no trial has completed" in seen.found[0]
    assert "train: no memory" in seen.found[1]


def test_without_a_price_there_is_no_cost_view(browse: Open) -> None:
    probe = "return [$('#cost-figure').hidden, $('#latency').data.length, $('#limits').innerText];"
    hidden, traces, limits = browse(example(20, priced=False), probe).found
    assert hidden
    assert traces > 3
    assert "cost" not in limits


def test_several_metrics_can_be_chosen(browse: Open) -> None:
    spec = {**SPEC, "metrics": {"accuracy": "top1", "loss": {"direction": "min"}}}
    run = assemble(Path("r"), spec, example(20).events)
    more = tuple(dataclasses.replace(t, outcome=_with_loss(t)) for t in run.trials)
    probe = """
      $("#metrics [data-value=loss]").click();
      await pause(500);
      return [$("#latency").layout.yaxis.title.text, document.forms.limits.innerText];"""
    title, limits = browse(dataclasses.replace(run, trials=more), probe).found
    assert title == "Loss"
    assert "Loss worse by at most" in limits
    assert "lowest loss" in limits


def _with_loss(trial: Trial) -> Any:
    if trial.measurement is None:
        return trial.outcome
    values = {**trial.measurement.values, "loss": Estimate(1.3 + trial.number / 100)}
    return Completed(Measurement(values))


def test_an_old_browser_keeps_everything_but_the_charts(browse: Open) -> None:
    seen = browse(
        picked(example()),
        "return [$('#no-charts').innerText, $('#trials').tBodies[0].rows.length,"
        " $('#live').innerText];",
        before="delete window.DecompressionStream;",
    )
    notice, rows, live = seen.found
    assert seen.charts == "none"
    assert "cannot unpack the charts" in notice
    assert rows == 48
    assert live.startswith("Trial ")


def test_text_of_the_user_does_not_become_markup(browse: Open) -> None:
    settings = (("backend", EVIL), ("batch", 1), (EVIL, EVIL), ("precision", "<b>bold</b>"))
    measured = Measurement(
        {EVIL: Estimate(0.9), "latency_p50_ms": Estimate(1.0)}, {EVIL: EVIL, "x": {EVIL: 1}}
    )
    trials = (
        Trial(0, Configuration(settings), "baseline", Completed(measured)),
        Trial(1, Configuration(settings), "sampler", Failed(EVIL, EVIL)),
    )
    run = dataclasses.replace(example(1), trials=trials, metrics={EVIL: "max"}, slo=(), name=EVIL)
    probe = """
      $("#trials tbody tr").click();
      Plotly.Fx.hover("latency", [{ curveNumber: 1, pointNumber: 0 }]);
      await pause(500);
      return [document.querySelectorAll("img").length, $("#latency .hovertext").textContent];"""
    images, hover = browse(run, probe).found
    assert images == 0
    assert "onerror=alert(1)" in hover
    assert "<b>bold</b>" in hover


NARROW = """
const frame = document.createElement("iframe");
frame.style.width = "400px"; frame.style.height = "900px";
document.documentElement.dataset.charts = "outer";
const page = new DOMParser();
frame.srcdoc = window.page;
document.body.append(frame);
const inner = () => frame.contentDocument.documentElement;
for (let i = 0; i < 100 && (!inner() || inner().dataset.charts !== "drawn"); i++) await pause(100);
const chart = frame.contentDocument.querySelector("#latency .main-svg");
const fits = (selector) => [...frame.contentDocument.querySelectorAll(selector)]
  .map((part) => part.getBoundingClientRect().right);
return [inner().dataset.charts, inner().scrollWidth, chart.getBoundingClientRect().width,
  Math.max(...fits("#compression td")), Math.max(...fits("td.reason:not(#trials td)"))];
"""


def test_a_narrow_screen_needs_no_sideways_scrolling(tmp_path: Path) -> None:
    run = picked(example())
    odd = Failed("export", f"no operator {'aten::unfold_' * 40}")
    page = script_text(render(dataclasses.replace(run, trials=(*run.trials, _ending(odd)))))
    outer = "<!doctype html><html><head></head><body></body></html>"
    seen = visit(outer, tmp_path, NARROW, before=f"window.page = {page};")
    charts, width, chart, effect, reason = seen.found
    assert charts == "drawn"
    assert width <= 400
    assert 300 < chart <= 400
    assert 100 < effect <= 400
    assert 100 < reason <= 400


def _ending(outcome: Failed) -> Trial:
    return Trial(99, Configuration((("batch", 1),)), "sampler", outcome)


def script_text(text: str) -> str:
    return json.dumps(text).replace("<", "\\u003c")


def test_charts_fit_the_paper_when_printed(browse: Open) -> None:
    probe = """
      const width = () => $("#latency .main-svg").getBoundingClientRect().width;
      dispatchEvent(new Event("beforeprint")); await pause(500);
      const paper = width();
      dispatchEvent(new Event("afterprint")); await pause(500);
      return [paper, width()];"""
    paper, screen = browse(example(9), probe).found
    assert paper == 680
    assert screen > 700
