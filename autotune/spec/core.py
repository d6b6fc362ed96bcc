"""The words of the space that no plug-in owns, those of the server's batcher among them."""

from __future__ import annotations

from autotune.contracts import PRECISIONS, SHARED, Parameter
from autotune.scenario import MAX_BATCH, Kind
from autotune.space import Choice, Is, Knob, Not
from autotune.spec.marks import Document
from autotune.target import Target

SECTION = "space"
SERVER = "server"
DEVICE = "device"
"""What a target runs models on, cpu or cuda: a knob where a target has a GPU; targets decide it."""
CORE = ("batch", "threads", "precision", "backend", SERVER, *SHARED)

BATCHER = (
    Parameter("max_batch", int, 1, low=1, help="the most requests that go together; 1: none wait"),
    Parameter(
        "max_queue_delay_ms",
        float,
        0.0,
        low=0,
        help="how long a request may be kept for company, in ms",
        when=Not(Is(MAX_BATCH, (1,))),
    ),
)
"""The knobs of the dynamic batcher (measurement.md, section 3), where the scenario is server."""


def core_parameters(
    targets: tuple[Target, ...], backends: tuple[str, ...]
) -> tuple[Parameter, ...]:
    """The words at the top of the space."""
    lane = min(target.lane_cores for target in targets)
    return (
        Parameter("batch", int, 1, low=1, help="samples in a request"),
        Parameter("threads", int, lane, low=1, help="threads of the runtime"),
        Parameter(
            "precision", str, "fp32", choices=PRECISIONS, help="of the weights and activations"
        ),
        Parameter(
            "backend", str, backends[0], choices=backends, help="the runtime that executes it"
        ),
    )


def places(targets: tuple[Target, ...]) -> list[Knob]:
    """The knobs of where it runs: the target of several, and its device where one has a GPU."""
    knobs: list[Knob] = []
    if len(targets) > 1:
        knobs.append(Knob("target", Choice(tuple(target.name for target in targets))))
    if any(target.gpu is not None for target in targets):
        knobs.append(Knob(DEVICE, Choice(tuple(dict.fromkeys(t.device for t in targets)))))
    return knobs


def fitting(document: Document, kind: Kind) -> None:
    """Refuse the words of one scenario in another.

    Raises:
        SpecError: A batch is searched where a server makes the batches, or a batcher is described
            where no server is.
    """
    given = document.at((SECTION,))
    if kind != "server" and SERVER in given:
        raise document.error(
            (SECTION, SERVER),
            f"'{SERVER}' describes a dynamic batcher, and the scenario is {kind}",
            "write scenario: server at the top of the file, or remove it",
        )
    if kind == "server" and given.get("batch", 1) not in (1, [1]):
        raise document.error(
            (SECTION, "batch"),
            "scenario: server gets requests of one sample and makes the batches itself",
            "remove batch, and search server: {max_batch: [1, 4, 16], max_queue_delay_ms: [0, 1]}",
        )
