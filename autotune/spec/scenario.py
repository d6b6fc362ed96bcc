"""The load scenario of a space file, held against its objectives and limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autotune.scenario import Kind, Scenario
from autotune.slo import SLO, Limit
from autotune.spec.marks import Document, Where

OBJECTIVES: Mapping[Kind, tuple[str, ...]] = {
    "single_stream": ("latency_p50", "cost"),
    "offline": ("throughput", "cost"),
    "server": ("server_rate", "cost"),
}
"""What is traded off against the first metric where the file does not say."""

_LATENCIES = ("latency_p50", "latency_p90", "latency_p99")
_SILENT: Mapping[Kind, tuple[str, ...]] = {
    "single_stream": ("server_rate",),
    "offline": ("server_rate", *_LATENCIES),
    "server": ("throughput", *_LATENCIES),
}
"""What cannot be compared: latencies of a server are those at each configuration's own rate."""


def scenario(kind: Kind, slo: SLO, objectives: Iterable[str], document: Document) -> Scenario:
    """The scenario; a server's has the tightest limit on the p99.

    Raises:
        SpecError: An objective or a limit is not measured in it, or a server has no limit to meet.
    """
    for word in objectives:
        _told(word, kind, ("objectives", word), document)
    if slo.objective is not None:
        _told(slo.objective.word, kind, _place(slo.objective.word, document), document)
    for limit in slo.limits:
        if not (kind == "server" and _bounds(limit)):
            _told(limit.quantity.word, kind, _place(limit.text, document), document)
    if kind != "server":
        return Scenario(kind)
    bounds = [limit.bound for limit in slo.limits if _bounds(limit)]
    if not bounds:
        raise document.error(
            ("slo",) if document.at(("slo",)) else ("scenario",),
            "scenario: server finds the highest rate of requests that a limit on the p99 allows, "
            "and slo has none in ms",
            "add to slo, for example: latency_p99 <= 5ms",
        )
    if not min(bounds) > 0:
        where = _place("latency_p99", document)
        raise document.error(where, "no request takes 0 ms", "for example: latency_p99 <= 5ms")
    return Scenario(kind, min(bounds))


def _bounds(limit: Limit) -> bool:
    """Whether it is what a server's rate is found under."""
    return limit.quantity.word == "latency_p99" and not limit.relative


def _told(word: str, kind: Kind, where: Where, document: Document) -> None:
    if word not in _SILENT[kind]:
        return
    why = f"scenario: {kind} does not measure {word}"
    if kind == "server" and word in _LATENCIES:
        why = f"scenario: server tells {word} at each configuration's own highest rate alone"
    known = ", ".join(OBJECTIVES[kind])
    raise document.error(where, why, f"take one of {known}, size or a metric")


def _place(text: str, document: Document) -> Where:
    """Where the sentence of ``slo`` stands that says ``text``."""
    sentences: list[str] = document.at(("slo",)) or []
    found = (i for i, sentence in enumerate(sentences) if text in sentence)
    return ("slo", next(found, 0))
