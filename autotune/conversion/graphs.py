"""What the functions on ONNX models share: names, sample batches, how a library is called."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autotune.contracts import StageContext
from autotune.conversion import arrays
from autotune.conversion.export import FILE
from autotune.errors import StageError
from autotune.training.network import SOURCE

CALIBRATION_BATCH = 32


def load(folder: Path) -> Any:
    """The ONNX model of an artifact, in the one form that the functions on models read.

    Every node has a name: an unnamed one that of its first output. Every constant tensor is an
    initializer, and none of them an input that might be replaced (which old files say of all).
    """
    import onnx

    return plain(onnx.load(str(folder / FILE)))


def plain(model: Any) -> Any:
    """``model`` in the form of ``load``; changed in place."""
    for node in model.graph.node:
        if not node.name:
            node.name = next(o for o in node.output if o)
    _constants_stored(model.graph)
    known = {tensor.name for tensor in model.graph.initializer}
    keep(model.graph.input, [place for place in model.graph.input if place.name not in known])
    model.ir_version = max(model.ir_version, _FREE_INITIALIZERS)
    return model


_FREE_INITIALIZERS = 4
"""The version of ONNX's format from which an initializer need not be an input."""


def _constants_stored(graph: Any) -> None:
    """Make initializers of the nodes that do nothing but hold a tensor."""
    rest = []
    for node in graph.node:
        tensor = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type != "Constant" or tensor is None:
            rest.append(node)
            continue
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = node.output[0]
    keep(graph.node, rest)


def keep(field: Any, values: Iterable[Any]) -> None:
    """Leave these of a repeated field's messages in it, or put others in their place."""
    kept = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(kept)


def session(model: Any, level: str) -> Any:
    """An ONNX Runtime session on the CPU that computes alike whatever the machine's cores are.

    Args:
        model: The ``ModelProto``.
        level: A member of ``GraphOptimizationLevel``, by name.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    stored = model.SerializeToString()
    return ort.InferenceSession(stored, options, providers=["CPUExecutionProvider"])


def finish(context: StageContext) -> dict[str, Any]:
    """Complete the artifact of a stage that has written its ONNX file; facts about it."""
    shutil.copy(context.inputs[0] / SOURCE, context.out / SOURCE)
    return {"bytes": (context.out / FILE).stat().st_size}


@contextmanager
def blame(library: str) -> Iterator[None]:
    """Whatever a library raises meanwhile, told as a stage's failure; its warnings are kept back.

    Args:
        library: What failed, in words: ``the quantizer``.

    Raises:
        StageError: With the library's words; a ``StageError`` of our own stays as it is.
    """
    root = logging.getLogger()  # ONNX Runtime's tools warn there
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    except StageError:
        raise
    except Exception as error:  # whatever it meets becomes the reason
        words = " ".join(str(error).split())[:500]
        raise StageError(f"{library} failed: {type(error).__name__}: {words}") from error
    finally:
        root.setLevel(level)


def constants(model: Any) -> dict[str, Any]:
    """The constant tensors of ``model`` by name; the exporter calls equal ones by two names."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def read(graph: Any) -> set[str]:
    """The tensors that the nodes of a graph read, those inside its branches and loops too."""
    found = {name for node in graph.node for name in node.input}
    inside = [part for node in graph.node for a in node.attribute for part in (a.g, *a.graphs)]
    return found.union(*(read(part) for part in inside if part.node))


def operators(model: Any) -> str:
    """How many nodes there are of each kind, most frequent first, in words."""
    kinds = Counter(node.op_type for node in model.graph.node)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


class Batches:
    """ONNX Runtime's reader protocol over arrays: one dict a call, then None.

    All batches have one size, because its histograms cannot be merged over two.
    """

    def __init__(self, x: Mapping[str, arrays.Array]) -> None:
        count = len(next(iter(x.values())))
        size = max(s for s in range(1, CALIBRATION_BATCH + 1) if count % s == 0)
        starts = range(0, count, size)
        self._left = iter([{n: a[s : s + size] for n, a in x.items()} for s in starts])

    def get_next(self) -> dict[str, arrays.Array] | None:
        return next(self._left, None)
