"""The knobs of the ONNX Runtime backend, and what each flag switches off in its optimizer."""

from __future__ import annotations

from autotune.conversion import weights
from autotune.parameter import Parameter
from autotune.space import ALWAYS, AllOf, Condition, Is, Not, Settings

LEVELS = ("disabled", "basic", "extended", "all")
WEIGHTS = {"int8_weights": 8, "int4_weights": 4}
"""The precisions with packed weights, and their bits."""
_BASIC = Not(Is("onnxruntime.level", ("disabled",)))
_EXTENDED = Is("onnxruntime.level", ("extended", "all"))
_SOME_FLOAT = Not(Is("ptq.keep", (0,)))  # a convolution that is not INT8
_BETWEEN = Not(Is("onnxruntime.operators", ("all",)))  # what is between products not INT8
_FUSIONS: tuple[tuple[str, tuple[str, ...], Condition, str], ...] = (
    (
        "constant_folding",
        ("ConstantFolding",),
        _BASIC,
        "compute what is constant when loading",
    ),
    (
        "matmul_add_fusion",
        ("MatMulAddFusion",),
        AllOf((_BASIC, Is("precision", ("fp32",)))),
        "a matrix product and the sum after it as one Gemm",
    ),
    (
        "conv_fusion",
        ("ConvActivationFusion", "ConvAddActivationFusion"),
        AllOf((_EXTENDED, _SOME_FLOAT)),
        "fuse convolution, sum and activation",
    ),
    (
        "gelu_fusion",
        ("GeluFusionL1", "GeluFusionL2", "BiasGeluFusion"),
        AllOf((_EXTENDED, _BETWEEN)),
        "the nodes of a GELU as one, its bias too",
    ),
    (
        "layer_norm_fusion",
        ("LayerNormFusionL1", "LayerNormFusionL2", "SkipLayerNormFusion"),
        AllOf((_EXTENDED, _BETWEEN)),
        "the nodes of a layer normalisation as one, the residual sum before it too",
    ),
    (
        "nchwc",
        ("NchwcTransformer",),
        AllOf((Is("onnxruntime.level", ("all",)), _SOME_FLOAT)),
        "blocked memory layout for convolutions",
    ),
)
"""A flag's word, ONNX Runtime's names of what it switches off, where it exists, and its help."""


def parameters() -> tuple[Parameter, ...]:
    """Every knob of the CPU, each after those that its condition reads."""
    return (
        _words("level", "all", LEVELS, "graph optimization level"),
        _words(
            "operators",
            "all",
            ("all", "products"),
            "INT8 for all operators that have it, or convolutions and matrix products alone",
            Is("precision", ("int8",)),
        ),
        *(_flag(word, True, told, when) for word, _, when, told in _FUSIONS),
        _flag("spinning", True, "idle threads spin instead of sleeping", Not(Is("threads", (1,)))),
        _flag("simplify", False, "simplify the ONNX model with onnxslim first"),
        _flag(
            "transformer_fusion",
            False,
            "attention, GELU and residual normalisation as one node each, before loading",
            Is("precision", ("fp32", "int8_dynamic")),
        ),
        _words(
            "arithmetic",
            "float",
            tuple(weights.LEVELS),
            "how products with packed weights compute; int8 rounds activations in groups",
            Is("precision", tuple(WEIGHTS)),
        ),
    )


def disabled(settings: Settings) -> list[str]:
    """What ONNX Runtime must leave out, in its own names.

    In INT8 a matrix product and the sum after it stay two nodes (as one Gemm they would have no
    integer kernel, because their bias is not quantized), and the layers that ``ptq.keep`` left in
    floating point are not quantized after all.
    """
    off = [of for word, of, _, _ in _FUSIONS if not settings.get(f"onnxruntime.{word}", True)]
    names = [name for of in off for name in of]
    if settings["precision"] == "int8":
        names += ["MatMulAddFusion", "WeightBiasQuantization"]
    return names


def _flag(name: str, default: bool, told: str, when: Condition = ALWAYS) -> Parameter:
    return Parameter(name, bool, default, help=told, when=when)


def _words(
    name: str, default: str, choices: tuple[str, ...], told: str, when: Condition = ALWAYS
) -> Parameter:
    return Parameter(name, str, default, choices=choices, help=told, when=when)
