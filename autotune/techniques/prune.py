"""Pruning: channels, attention heads or single weights that matter least are removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from autotune.contracts import Parameter, Rejection, TechniqueContext
from autotune.errors import StageError
from autotune.space import AllOf, Condition, Is, Not, Settings
from autotune.target import Target
from autotune.task import Blueprint, ModelSource

if TYPE_CHECKING:
    from torch import nn

    from autotune.training.gradual import Knife, Rounds

summary = "remove the least important channels, attention heads or single weights"
position = 20
sections = ("prune",)
needs_data = True
needs_teacher = True
libraries = ("torch", "torch-pruning")

STRUCTURES = ("channel", "head", "unstructured", "2:4")
SPARSE = ("unstructured", "2:4")
"""Those that make weights zero and keep the shapes."""
RANKED = ("global", "latency")
"""The allocations whose shapes hang on the weights (and on the clock)."""
SHARED = Is("prune.structure", ("channel", "head", "unstructured"))
CHANNEL = Is("prune.structure", ("channel",))
STAGES = Is("prune.allocation", ("stages",))
GRADUAL = AllOf((SHARED, Not(Is("prune.steps", (1,)))))
TEMPERATURE, ALPHA = 4.0, 0.3
"""Of the distillation between two rounds: fine-tuning's defaults."""


def parameters(model: ModelSource) -> Mapping[str, tuple[Parameter, ...]]:
    """What is removed, how much of it and where, by which measure, and in how many rounds."""
    return {"prune": (*_what(), *_where(), *_how())}


def _what() -> tuple[Parameter, ...]:
    return (
        Parameter(
            "structure",
            str,
            "none",
            choices=("none", *STRUCTURES),
            help="channel, head: layers become narrower; unstructured, 2:4: weights become zero",
        ),
        Parameter(
            "criterion",
            str,
            "magnitude",
            choices=("magnitude", "taylor", "lamp", "random"),
            help="how importance is told: size, effect on the loss, size within the layer, chance",
            when=SHARED,
        ),
        Parameter(
            "heads",
            str,
            "num_heads",
            help="the attribute of an attention module that counts its heads",
            when=Is("prune.structure", ("head",)),
        ),
    )


def _where() -> tuple[Parameter, ...]:
    stages = (("early", "first"), ("middle", "second"), ("late", "last"))
    return (
        Parameter(
            "allocation",
            str,
            "uniform",
            choices=("uniform", "global", "latency", "stages"),
            help="every layer alike; ranked over all, also by time saved; a ratio for each third",
            when=CHANNEL,
        ),
        Parameter(
            "ratio",
            float,
            0.5,
            low=0,
            high=0.95,
            help="share of the channels, heads or weights that goes",
            when=AllOf((SHARED, Not(STAGES))),
        ),
        *(
            Parameter(
                f"ratio_{stage}",
                float,
                0.5,
                low=0,
                high=0.95,
                help=f"share of the channels that goes, of the {place} third of the layers",
                when=STAGES,
            )
            for stage, place in stages
        ),
        Parameter(
            "round_to", int, 8, low=1, help="channels are kept in multiples of this", when=CHANNEL
        ),
    )


def _how() -> tuple[Parameter, ...]:
    return (
        Parameter(
            "steps",
            int,
            1,
            low=1,
            help="rounds of pruning, with a short training between; 1: all at once",
            when=SHARED,
        ),
        Parameter(
            "schedule",
            str,
            "cubic",
            choices=("cubic", "linear"),
            help="how much goes in each round: most of it early, or as much every time",
            when=GRADUAL,
        ),
        Parameter("step_epochs", int, 1, low=1, help="epochs between two rounds", when=GRADUAL),
        Parameter(
            "step_lr", float, 1e-3, low=0, help="peak learning rate between rounds", when=GRADUAL
        ),
    )


def when(model: ModelSource) -> Condition:
    """Exists where a structure is chosen."""
    return Is("prune.structure", STRUCTURES)


def reject(settings: Settings, target: Target, model: ModelSource) -> Rejection | None:
    """LAMP sets layers against each other: within one it ranks as magnitude does."""
    if settings.get("prune.criterion") != "lamp":
        return None
    if settings.get("prune.structure") == "unstructured":
        return None
    if settings.get("prune.allocation") in RANKED:
        return None
    return Rejection("never", "within one layer lamp ranks as magnitude does: no other network")


def trains(settings: Settings) -> bool:
    return int(settings.get("prune.steps", 1)) > 1


def shapes(settings: Settings) -> tuple[str, ...] | None:
    if settings["prune.structure"] in SPARSE:
        return ()
    return None if settings.get("prune.allocation") in RANKED else ("prune",)


def measures(settings: Settings) -> bool:
    return settings.get("prune.allocation") == "latency"


def apply(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """The network without what matters least, in place; its outputs keep their shape.

    Raises:
        StageError: torch-pruning cannot trace the network, there is nothing of that structure, or
            nothing was removed.
    """
    from autotune.training import gradual

    knife = _knife(network, settings, context, str(settings.get("prune.criterion", "magnitude")))
    removed = gradual.prune(network.eval(), context, knife, _rounds(settings))
    network.zero_grad(set_to_none=True)
    if not removed:
        raise StageError("pruning removed nothing: raise prune.ratio or lower prune.round_to")
    sparse = context.blueprint.sparse or settings["prune.structure"] in SPARSE
    return network.eval(), dataclasses.replace(context.blueprint, sparse=sparse)


def structure(
    network: nn.Module, settings: Settings, context: TechniqueContext
) -> tuple[nn.Module, Blueprint]:
    """All at once: with what is kept of each layer fixed, which part it is does not matter."""
    if shapes(settings):
        _knife(network, settings, context, "magnitude").cut(network.eval(), 1.0)
    return network, context.blueprint


def _knife(
    network: nn.Module, settings: Settings, context: TechniqueContext, criterion: str
) -> Knife:
    from autotune.training import channels, knives

    kind = settings["prune.structure"]
    if kind == "2:4":
        return knives.of_fours(context.report)
    if kind == "unstructured":
        return knives.of_weights(context, float(settings["prune.ratio"]), criterion)
    if kind == "head":
        attribute, ratio = str(settings["prune.heads"]), float(settings["prune.ratio"])
        return knives.of_heads(network, context, attribute, ratio, criterion)
    allocation = str(settings["prune.allocation"])
    names = ("ratio_early", "ratio_middle", "ratio_late")
    names = names if allocation == "stages" else ("ratio",) * 3
    early, middle, late = (float(settings[f"prune.{name}"]) for name in names)
    wish = channels.Wish((early, middle, late), allocation, int(settings["prune.round_to"]))
    return knives.of_channels(network, context, wish, criterion)


def _rounds(settings: Settings) -> Rounds:
    from autotune.training import gradual, loop, losses

    recipe = loop.Recipe(
        int(settings.get("prune.step_epochs", 1)),
        float(settings.get("prune.step_lr", 0.0)),
        keep_zeros=settings["prune.structure"] in SPARSE,
    )
    return gradual.Rounds(
        int(settings.get("prune.steps", 1)),
        str(settings.get("prune.schedule", "linear")),
        recipe,
        losses.distillation(TEMPERATURE, ALPHA),
    )
