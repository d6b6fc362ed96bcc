"""Attention, GELU and layer normalisation of a transformer as one node each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotune.artifact import Stage
from autotune.contracts import StageContext
from autotune.conversion import graphs
from autotune.conversion.export import FILE
from autotune.plugins import version


def stage(onnx: Stage) -> Stage:
    """The ONNX model with ONNX Runtime's own operators for the parts of a transformer."""
    return Stage(
        name="fuse",
        function="autotune.conversion.fuse:run",
        kind="onnx",
        inputs=(onnx,),
        libraries=(version("onnxruntime"), version("onnx")),
    )


def run(context: StageContext) -> Mapping[str, Any]:
    """Fuse what is found; the fact ``fused`` counts it by operator and is empty where nothing was.

    An attention mask stays a mask: by itself the optimizer counts the places that are there and
    takes those that are not for the last ones, which is another function where they are not.

    Raises:
        StageError: The optimizer cannot take the model; the message has its words.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.use_raw_attention_mask(True)
    options.enable_embed_layer_norm = False  # it would change the type of the inputs
    with graphs.blame("transformer_fusion: the optimizer"):
        model = optimizer.optimize_model(
            graphs.load(context.inputs[0]),
            "bert",
            num_heads=0,  # as found
            hidden_size=0,
            opt_level=0,
            optimization_options=options,
        )
    model.save_model_to_file(str(context.out / FILE))
    fused = {kind: n for kind, n in model.get_fused_operator_statistics().items() if n}
    return {**graphs.finish(context), "fused": fused}
