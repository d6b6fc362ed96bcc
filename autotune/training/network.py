"""A network on disk: factory arguments, a record of what pruning changed, and the weights.

No pickle and no pruning library is needed to load one: the factory builds the fresh network, the
record sets the attributes that differ from it, and the state loads strictly.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.errors import StageError, TaskError
from autotune.task import Blueprint, CodeRef, ModelSource
from autotune.training import usercode
from autotune.training.seeds import seed_everything

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

FILE = "network.pt"
SOURCE = "source.json"


def build(model: ModelSource, blueprint: Blueprint) -> nn.Module:
    """A fresh network from the user's factory, or from the other function that is named.

    Raises:
        TaskError: The factory raised or returned something that is not a network.
    """
    from torch import nn

    if model.factory is None:
        raise TaskError("an ONNX model has no factory to build a network with")
    if model.code and model.code != stamped(model).code:
        raise StageError(f"{model.factory.file} changed while the run was under way: run again")
    factory = CodeRef(model.factory.file, blueprint.factory or model.factory.name)
    network = usercode.call(factory, dict(blueprint.args))
    if not isinstance(network, nn.Module):
        raise TaskError(
            f"{factory.name}() returned {type(network).__name__}",
            place=factory.file,
            remedy="return a torch.nn.Module",
        )
    return network


def stamped(model: ModelSource) -> ModelSource:
    """The model with the hash of its factory's files as they are now."""
    if model.factory is None:
        return model
    files = usercode.sources(Path(model.factory.file))
    return dataclasses.replace(model, code=usercode.fingerprint(files))


def given(model: ModelSource) -> nn.Module:
    """The model as given: built with its own arguments, its weights loaded.

    Raises:
        TaskError: As for ``build``, or the weights do not fit the network.
    """
    import torch

    seed_everything(0)  # without weights the model is as it is initialised, the same every time
    network = build(model, Blueprint(model.args))
    if model.weights is not None:
        try:
            state = torch.load(model.weights, weights_only=True, map_location="cpu")
            network.load_state_dict(state)
        except Exception as error:  # the edge to the user's file
            raise TaskError(
                f"the weights do not load into the network: {_first(error)}",
                place=model.weights,
                remedy="a state_dict of the factory's network, saved with torch.save",
            ) from error
    return network.eval()


def save(network: nn.Module, blueprint: Blueprint, model: ModelSource, folder: Path) -> None:
    """Write ``network`` to ``folder`` in the form that ``load`` reads."""
    import torch

    write_source(model, folder)
    record = {
        "factory": blueprint.factory,
        "args": dict(blueprint.args),
        "sparse": blueprint.sparse,
        "attrs": _changed(network, build(model, blueprint)),
    }
    torch.save({**record, "state": network.state_dict()}, folder / FILE)


def load(folder: Path) -> tuple[nn.Module, Blueprint, ModelSource]:
    """The network of an artifact, ready to run, its blueprint, and where it comes from."""
    import torch

    model = read_source(folder)
    record = torch.load(folder / FILE, weights_only=True, map_location="cpu")
    blueprint = Blueprint(record["args"], record["factory"], record.get("sparse", True))
    network = build(model, blueprint)
    modules = dict(network.named_modules())
    for name, attrs in record["attrs"].items():
        for attr, value in attrs.items():
            setattr(modules[name], attr, tuple(value) if isinstance(value, list) else value)
    replaced: dict[Tensor, Tensor] = {}  # tied tensors stay tied
    for name, tensor in _tensors(network):
        fresh = record["state"].get(name)
        if fresh is not None and fresh.shape != tensor.shape:
            if tensor not in replaced:
                replaced[tensor] = _like(fresh, tensor)
            owner, _, leaf = name.rpartition(".")
            setattr(modules[owner], leaf, replaced[tensor])
    network.load_state_dict(record["state"])
    return network.eval(), blueprint, model


def write_source(model: ModelSource, folder: Path) -> None:
    """Keep beside an artifact how its model is built and which of its outputs counts."""
    (folder / SOURCE).write_text(json.dumps(model.record()))


def read_source(folder: Path) -> ModelSource:
    """What ``write_source`` wrote."""
    return ModelSource.from_record(json.loads((folder / SOURCE).read_text()))


def predict(
    network: nn.Module, x: Mapping[str, NDArray[np.generic]], output: int | str, batch: int = 128
) -> NDArray[np.floating[Any]]:
    """The network's prediction for every sample, shape (samples, ...), float32."""
    import torch

    count = len(next(iter(x.values())))
    parts: list[NDArray[np.floating[Any]]] = []
    with torch.inference_mode():
        for start in range(0, count, batch):
            inputs = (torch.from_numpy(np.array(a[start : start + batch])) for a in x.values())
            parts.append(select(network(*inputs), output).float().numpy())
    return np.concatenate(parts)


def select(outputs: Any, output: int | str) -> Tensor:
    """The one output that is the prediction, of a tensor, a tuple or a dict.

    Raises:
        StageError: There is no such output.
    """
    import torch

    if isinstance(outputs, torch.Tensor):
        return outputs
    try:
        if isinstance(outputs, dict) and isinstance(output, int):
            outputs = list(outputs.values())
        found = outputs[output]
    except (KeyError, IndexError, TypeError) as error:
        raise StageError(f"the network has no output {output!r}") from error
    if not isinstance(found, torch.Tensor):
        raise StageError(f"output {output!r} is a {type(found).__name__}, not a tensor")
    return found


def selected(network: nn.Module, output: int | str) -> nn.Module:
    """``network`` with that output alone, for a tracer."""
    from torch import nn

    class Selected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: Tensor) -> Tensor:
            return select(self.network(*inputs), output)

    return Selected().eval()


def _changed(network: nn.Module, fresh: nn.Module) -> dict[str, dict[str, Any]]:
    """For every module, its plain attributes that differ from the fresh network's."""
    originals = dict(fresh.named_modules())
    record: dict[str, dict[str, Any]] = {}
    for name, module in network.named_modules():
        original = vars(originals[name]) if name in originals else {}
        changed = {
            attr: list(value) if isinstance(value, tuple) else value
            for attr, value in vars(module).items()
            if _plain(value) and attr != "training" and original.get(attr, ...) != value
        }
        if changed:
            record[name] = changed
    return record


def _plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_plain(part) for part in value)
    return isinstance(value, (bool, int, float, str))


def _tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by full name, tied ones under each of their names."""
    return [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]


def _like(fresh: Tensor, old: Tensor) -> Tensor:
    """An empty tensor of the shape of ``fresh`` and the kind (parameter or buffer) of ``old``."""
    import torch
    from torch import nn

    new = torch.empty_like(fresh)
    return nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
