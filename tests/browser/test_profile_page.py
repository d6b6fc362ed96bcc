from pathlib import Path
from typing import Any

import pytest
from report.test_html import EVIL
from report.test_profile_section import BEST, GIVEN, profiled

from autotune.profile import Operation, Profile
from autotune.report import render
from browser.chromium import CHROMIUM, visit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
BARS = """
const chart = $("#profile");
return {
  traces: chart.data.map((t) => ({ name: t.name, y: t.y, x: t.x, text: t.text })),
  bars: chart.querySelectorAll(".bars .point path").length,
  labels: [...chart.querySelectorAll(".bars .point text")].map((t) => t.textContent),
  images: document.querySelectorAll("img").length,
};
"""


def bars(given: Profile, best: Profile, folder: Path) -> dict[str, Any]:
    seen = visit(render(profiled(given, best)), folder, BARS)
    assert seen.problems == []
    assert seen.fetched == []
    assert seen.charts == "drawn"
    return dict(seen.found)


def test_a_pair_of_bars_for_each_kind_of_work(tmp_path: Path) -> None:
    found = bars(GIVEN, BEST, tmp_path)
    given, best = found["traces"]
    assert given["name"].startswith("The model as given")
    assert given["y"] == best["y"]
    assert found["bars"] == 2 * len(given["y"])
    assert any("int8, fp32" in label for label in found["labels"])


def test_an_operators_name_is_text(tmp_path: Path) -> None:
    evil = Profile((Operation(EVIL, EVIL, EVIL, 0.5),), 0.6, 10, bare_ms=0.4)
    found = bars(evil, evil, tmp_path)
    assert found["images"] == 0
    assert any("<img" in label for label in found["labels"])
