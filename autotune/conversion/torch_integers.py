"""PyTorch networks in 8 bits, by torchao.

Nothing that runs is pickled. An artifact is the float network and, for static ranges, the state of
the observers that saw the calibration samples; the integer graph is made of both when it is opened.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.artifact import Stage
from autotune.contracts import PTQ, StageContext
from autotune.conversion import graphs, qdq
from autotune.errors import StageError
from autotune.plugins import version
from autotune.space import Settings
from autotune.training import network as networks

if TYPE_CHECKING:
    from torch import Tensor, nn

RANGES = "ranges.pt"
_ASKED = ("samples", "scheme")
_OBSERVER = "activation_post_process"
_EPSILON = 2.0**-12
"""The least scale, as torchao's own configuration for x86 has it."""


def static(network: Stage, data: Stage, settings: Settings) -> Stage:
    """The network with the ranges of its activations, by the words of ``ptq`` in ``settings``."""
    defaults = {word.name: word.default for word in PTQ}
    asked = {word: settings.get(f"ptq.{word}", defaults[word]) for word in _ASKED}
    return Stage(
        name="calibrate",
        function="autotune.conversion.torch_integers:calibrate",
        kind="network",
        parameters=asked,
        inputs=(network, data),
        libraries=(version("torch"), version("torchao")),
    )


def dynamic(network: Stage) -> Stage:
    """The network, once it is known to have layers for dynamic ranges."""
    return Stage(
        name="quantize",
        function="autotune.conversion.torch_integers:check",
        kind="network",
        inputs=(network,),
        libraries=(version("torch"), version("torchao")),
    )


def calibrate(context: StageContext) -> dict[str, Any]:
    """Least and largest values of every quantized tensor over the calibration samples.

    Raises:
        StageError: Fewer calibration samples than asked, or a network that cannot be exported.
    """
    import torch

    scheme = str(context.parameters["scheme"])
    count = int(context.parameters["samples"])
    x = qdq.calibration(context.inputs[1], count)
    network, _, source = networks.load(context.inputs[0])
    batches = graphs.Batches(x)
    prepared = None
    with torch.no_grad():
        while (batch := batches.get_next()) is not None:
            inputs = [torch.from_numpy(a) for a in batch.values()]
            if prepared is None:
                prepared = _prepared(networks.selected(network, source.output), inputs, scheme)
            prepared(*inputs)
    ranges = _observed(prepared)
    if not ranges:
        raise StageError("the network has no convolution or linear layer that torchao quantizes")
    torch.save({"scheme": scheme, "ranges": ranges}, context.out / RANGES)
    _carry(context)
    return {"samples": count, "tensors": len({name.rpartition(".")[0] for name in ranges})}


def check(context: StageContext) -> dict[str, Any]:
    """See that there is a linear layer of several inputs, the only kind with dynamic ranges.

    Raises:
        StageError: There is none.
    """
    network, _, _ = networks.load(context.inputs[0])
    layers = sum(_has_row(module) for module in network.modules())
    if not layers:
        raise StageError(
            "the network has no linear layer of more than one input, and PyTorch's int8_dynamic is "
            "of those alone"
        )
    _carry(context)
    return {"layers": layers}


def with_ranges(artifact: Path, network: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """``network`` with the artifact's ranges, as a graph for inputs of these shapes.

    Its layers quantize and dequantize around floating-point products; ``lowered`` or a compiler
    makes integer kernels of them.

    Raises:
        StageError: The ranges are of another graph.
    """
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    record = torch.load(artifact / RANGES, weights_only=True)
    with torch.no_grad():
        prepared = _prepared(network, inputs, record["scheme"])
        if _observed(prepared).keys() != record["ranges"].keys():
            raise StageError(
                "the network's graph hangs on the batch: the ranges found in calibration do not fit"
            )
        prepared.load_state_dict({**prepared.state_dict(), **record["ranges"]})
        converted: nn.Module = convert_pt2e(prepared)
    return converted


def lowered(network: Any, inputs: Sequence[Tensor]) -> nn.Module:
    """A graph of ``with_ranges`` with integer kernels, without a compiler; it is used up."""
    import torch
    from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _flatten(network)
        graph: nn.Module = lower_pt2e_quantized_to_x86(network, tuple(inputs))
    return graph


def _flatten(graph: Any) -> None:
    """Give each quantized linear layer its input with two dimensions, in place.

    torchao 0.18 looks for those alone, and leaves a transformer's layers in floating point.
    """
    import torch

    aten: Any = torch.ops.aten
    ranged: Any = torch.ops.quantized_decomposed.dequantize_per_tensor.default
    for node in graph.graph.find_nodes(op="call_function", target=aten.linear.default):
        read, shape = node.args[0], tuple(node.meta["val"].shape)
        if getattr(read, "target", None) is not ranged or len(shape) < 3:
            continue
        integers, *scale = read.args
        rows = math.prod(shape[:-1])
        with graph.graph.inserting_before(node):
            flat = graph.graph.call_function(aten.reshape.default, (integers, [rows, -1]))
            floats = graph.graph.call_function(ranged, (flat, *scale), dict(read.kwargs))
        node.replace_input_with(read, floats)
        with graph.graph.inserting_after(node):
            full = graph.graph.call_function(aten.reshape.default, (node, list(shape)))
        node.replace_all_uses_with(full, delete_user_cb=lambda user, own=full: user is not own)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def with_dynamic_ranges(network: nn.Module) -> nn.Module:
    """``network`` whose linear layers find the range of each row of their input at run time.

    Those of one input stay as they are: a row of one number has no range of its own, and torchao
    0.18 cannot run one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        # Teaches the compiler oneDNN's kernels, of which it otherwise takes fewer.
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer  # noqa: F401

        config = Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
        quantize_(network, config, lambda module, _: _has_row(module))
    return network


def _has_row(module: nn.Module) -> bool:
    """Whether it is a linear layer of more than one input."""
    from torch import nn

    return isinstance(module, nn.Linear) and module.in_features > 1


def _prepared(network: nn.Module, inputs: Sequence[Tensor], scheme: str) -> Any:
    """``network`` exported for inputs of these shapes, with observers."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

        try:
            graph = torch.export.export(network, tuple(inputs)).module()
        except Exception as error:  # whatever the exporter meets becomes the reason
            words = " ".join(str(error).split())[:500]
            raise StageError(f"torch.export failed: {type(error).__name__}: {words}") from error
        return prepare_pt2e(graph, _quantizer(scheme))


def _quantizer(scheme: str) -> Any:
    """Unsigned activations, signed weights, a scale for each channel: what x86's kernels take."""
    import torch
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    affine = scheme == "mixed"
    activations = QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_affine if affine else torch.per_tensor_symmetric,
        is_dynamic=False,
        observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=_EPSILON),
    )
    weights = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        is_dynamic=False,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=_EPSILON),
    )
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(QuantizationConfig(activations, activations, weights, None, is_qat=False))
    return quantizer


def _observed(prepared: Any) -> dict[str, Tensor]:
    """The observers' part of the state."""
    return {name: t for name, t in prepared.state_dict().items() if name.startswith(_OBSERVER)}


def _carry(context: StageContext) -> None:
    for name in (networks.FILE, networks.SOURCE):
        shutil.copy(context.inputs[0] / name, context.out / name)
