"""The page: a run -> one HTML file that needs nothing beside it and asks nothing of a network."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from autotune.report import account, compression, profile
from autotune.report.headline import headline
from autotune.report.payload import payload
from autotune.report.words import change, duration, number, scenario, shift
from autotune.runfolder import RunData
from autotune.version import __version__

_SCRIPTS = ("pick.js", "format.js", "charts.js", "profile.js", "table.js", "main.js")


def render(run: RunData) -> str:
    """The report of ``run``, finished or not, as the text of one HTML file of about 2 MB.

    A pure function: the same run gives the same text.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {f.__name__: f for f in (number, duration, change, shift)}
    page = environment.from_string(_asset("page.html.j2"))
    return page.render(_context(run))


def _context(run: RunData) -> Mapping[str, Any]:
    return {
        "run": run,
        "version": __version__,
        "headline": headline(run),
        "counts": account.counts(run),
        "ended": account.ended(run),
        "effects": compression.effects(run),
        "judge": compression.metric(run),
        "pace": compression.pace(run),
        "scenario": scenario(run),
        "alone": compression.alone(run),
        "profiles": profile.sides(run),
        "unprofiled": profile.missing(run),
        "stages": account.stage_times(run),
        "totals": account.totals(run),
        "machine": account.machine(run),
        "samples": account.test_samples(run),
        "spec": yaml.safe_dump(dict(run.spec), sort_keys=False, allow_unicode=True),
        "style": Markup(_asset("style.css")),  # noqa: S704 - our own file
        "scripts": Markup("\n".join(_asset(name) for name in _SCRIPTS)),  # noqa: S704 - our own
        "data": script_json(payload(run)),
        "plotly": _plotly(),
    }


def script_json(value: object) -> Markup:
    """``value`` as JSON that no text inside it can end the script element that holds it.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - the characters that could end the element are gone


@cache
def _asset(name: str) -> str:
    return files("autotune.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Plotly's script, gzip in base64: 2 MB instead of 5."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
