"""A page opened in headless Chromium, with what went wrong in it and what it did."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--window-size=1280,1000",
    "--virtual-time-budget=20000",
)

_LISTEN = """<script>
window.problems = [];
const note = (text) => window.problems.push(String(text));
addEventListener("error", (e) => note("error: " + e.message));
addEventListener("unhandledrejection", (e) => note("rejection: " + e.reason));
addEventListener("securitypolicyviolation", (e) => note("asked for " + e.blockedURI));
for (const level of ["error", "warn"]) {
  const say = console[level].bind(console);
  console[level] = (...parts) => { note(level + ": " + parts.join(" ")); say(...parts); };
}
%s
</script>"""
_PROBE = """<script>
(async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const $ = (selector) => document.querySelector(selector);
  const type = (input, value) => {
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  for (let i = 0; i < 150 && document.documentElement.dataset.charts === "waiting"; i++) {
    await pause(100);
  }
  let found;
  try { found = await (async () => { %s })(); } catch (error) { note("probe: " + error); }
  const fetched = performance.getEntriesByType("resource").map((entry) => entry.name);
  const charts = document.documentElement.dataset.charts;
  const said = JSON.stringify({ found, problems: window.problems, fetched, charts });
  const place = Object.assign(document.createElement("pre"), { id: "said" });
  place.textContent = said;
  document.body.append(place);
})();
</script>"""


@dataclass(frozen=True)
class Visit:
    """What a page did: the probe's result, complaints, requests, and how its charts ended."""

    found: Any
    problems: list[str]
    fetched: list[str]
    charts: str


def visit(page: str, folder: Path, probe: str = "", before: str = "") -> Visit:
    """Open ``page`` with ``before`` in its head; run ``probe``, a function's body, once it drew."""
    head, rest = page.split("<head>", 1)
    body, end = rest.rsplit("</body>", 1)
    file = folder / "page.html"
    file.write_text(
        f"{head}<head>{_LISTEN % before}{body}{_PROBE % probe}</body>{end}", encoding="utf-8"
    )
    dom = _dump(file, folder / "profile")
    said = re.search(r'<pre id="said">(.*?)</pre>', dom, re.DOTALL)
    assert said is not None, f"the page said nothing: {dom[-2000:]}"
    return Visit(**json.loads(html.unescape(said.group(1))))


def _dump(file: Path, profile: Path) -> str:
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", file.as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
        text=True,
    )
    return done.stdout
