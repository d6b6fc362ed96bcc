"""The space as Tune knows it, and a point of Tune's as autotune knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune

from autotune.errors import UserError
from autotune.search import driver
from autotune.search.starts import baselines
from autotune.space import Choice, Configuration, Domain, Scalar
from autotune.spec import Spec


def search_space(spec: Spec) -> dict[str, Any]:
    """Tune's ``param_space``: one entry a knob, by its full name (``onnxruntime.level``).

    Tune's space is flat: it gives every knob a value, those too that are not active at the point.
    They are dropped before the point is evaluated, so two of Tune's configurations may be one of
    ours; the second is then answered from what the first has measured. A point that a rule removes
    is reported as rejected.
    """
    return {knob.name: _sampled(knob.domain) for knob in spec.space.knobs}


def suggested(spec: Spec, point: Configuration) -> dict[str, Scalar | None]:
    """A point as Tune's configuration: every knob of the space, None where it is not active."""
    return {**dict.fromkeys(knob.name for knob in spec.space.knobs), **point}


def configuration(spec: Spec, config: Mapping[str, Any]) -> Configuration:
    """The point that one of Tune's configurations stands for; None counts as not given.

    A baseline is taken as it is, because it need not lie in the space.

    Raises:
        Infeasible: A value lies outside its domain, is missing, or a rule removes the point.
        UserError: A name that is no knob of this space.
    """
    exact = literal(config)
    if any(exact.key == baseline.key for baseline in baselines(spec)):
        return exact
    names = [knob.name for knob in spec.space.knobs]
    if unknown := sorted(set(exact) - set(names)):
        raise UserError(
            f"no knob of this space is called {', '.join(unknown)}",
            place="Tune's configuration",
            remedy=f"its knobs are {', '.join(names)}",
        )
    return spec.space.configure(exact)


def literal(config: Mapping[str, Any]) -> Configuration:
    """What Tune gives, word for word; it need not be a point of the space."""
    settings = {name: _plain(value) for name, value in config.items() if value is not None}
    return Configuration(tuple(sorted(settings.items())))


def in_flight(spec: Spec) -> int:
    """How many trials at once keep every lane and every preparing core busy."""
    return driver.in_flight(spec.targets)


def _sampled(domain: Domain) -> Any:
    grid = domain.grid()
    if grid is not None and len(grid) == 1:
        return grid[0]
    if isinstance(domain, Choice) or (grid is not None and not domain.log):
        return tune.choice(list(grid or ()))
    if domain.integer:
        return tune.lograndint(int(domain.low), int(domain.high) + 1)
    return (tune.loguniform if domain.log else tune.uniform)(domain.low, domain.high)


def _plain(value: Any) -> Scalar:
    """The plain value behind one of NumPy's, which some search algorithms give."""
    scalar: Scalar = value.item() if hasattr(value, "item") else value
    return scalar
