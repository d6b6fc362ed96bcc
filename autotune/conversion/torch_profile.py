"""What PyTorch's profiler saw of some requests, read as a ``Profile``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from autotune.conversion import torch_kernels
from autotune.measure.spans import WARM_UP, Span, middle, outermost, walls_ms, within
from autotune.profile import Operation, Profile

if TYPE_CHECKING:
    from autotune.contracts import Arrays

MOST = 50
"""Requests that are profiled: the profiler keeps every call of them."""
_REQUEST = "autotune request"
_HOLDERS = {
    "## Call CompiledFxGraph": "kernels made by the compiler",
    "forward": "TorchScript, what it does not name",
}
"""Spans that hold operators and, beside them, kernels of which the profiler shows no more."""


def profile(run: Callable[[Arrays], object], requests: Sequence[Arrays], integers: str) -> Profile:
    """The mean over the middle half of the requests, of the operators that the network calls.

    What such an operator calls in turn is part of it (``conv2d`` calls ``convolution``).

    Args:
        run: Runs one request.
        requests: What to run.
        integers: The word for integer kernels, which do not tell where their ranges come from.
    """
    walls_ms(run, requests[:WARM_UP])
    told = [_told(spans, integers) for spans in _calls(_seen(run, requests[:1], shapes=True)[0])]
    seen = _seen(run, requests[:MOST], shapes=False)
    walls = [spans[0].length / 1e6 for spans in seen]
    chosen = middle(walls)
    found: defaultdict[tuple[str, str, str], list[Span]] = defaultdict(list)
    for spans in (seen[i] for i in chosen):
        calls = _calls(spans)
        known = told if len(told) == len(calls) else [("", "")] * len(calls)
        for (operator, *_), (name, precision) in zip(calls, known, strict=True):
            found[operator.word, name, precision].append(operator)
        for rest in _rests(spans, [call[0] for call in calls]):
            found[rest.word, "", ""].append(rest)
    rows = tuple(
        Operation(*key, sum(s.length for s in spans) / len(chosen) / 1e6, len(spans) / len(chosen))
        for key, spans in found.items()
    )
    return Profile(rows, sum(walls[i] for i in chosen) / len(chosen), len(chosen))


def _seen(
    run: Callable[[Arrays], object], requests: Sequence[Arrays], *, shapes: bool
) -> list[list[Span]]:
    """Of each request, the span that is all of it and those within, in nanoseconds."""
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU], record_shapes=shapes) as profiled:
        for request in requests:
            with record_function(_REQUEST):
                run(request)
    events = profiled.profiler.kineto_results.events()
    thread = next(event.start_thread_id() for event in events if event.name() == _REQUEST)
    spans = [
        Span(e.name(), e.start_ns(), e.start_ns() + e.duration_ns(), e if shapes else None)
        for e in events
        if e.start_thread_id() == thread
    ]
    spans.sort(key=lambda span: (span.start, -span.end))
    return within(spans, [span for span in spans if span.word == _REQUEST])


def _calls(spans: Sequence[Span]) -> list[list[Span]]:
    """Each operator that the network calls, and what that calls in turn."""
    operators = list(outermost(spans, lambda span: "::" in span.word))
    return within(spans, operators)


def _rests(spans: Sequence[Span], operators: Sequence[Span]) -> Iterator[Span]:
    """What is left of the spans that hold operators, under a word for what it is."""
    for span in spans:
        word = next((w for head, w in _HOLDERS.items() if span.word.startswith(head)), None)
        if word is not None:
            inside = sum(s.length for part in within(operators, [span]) for s in part)
            yield Span(word, span.start, span.end - inside)


def _told(call: Sequence[Span], integers: str) -> tuple[str, str]:
    """The shapes that an operator works on, and the precision that it computes in."""
    event = call[0].about
    shapes = [shape for shape in event.shapes() if shape]
    name = ", ".join("x".join(map(str, shape)) for shape in shapes[:2])
    heavy = (torch_kernels.precision(span.about, integers) for span in call)
    return name, next((word for word in heavy if word), torch_kernels.element(_first(event)))


def _first(event: Any) -> str:
    return next((str(kind) for kind in event.dtypes()), "")
