"""TensorRT's rules by name: each a small function over the graph, with why it matters and where it is written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .file_rules import custom_domain, ir_version, operators, opset, static_shapes, valid_nodes
from .graph import Broken, CheckedModel
from .int8_rules import (
    SMALLEST_INT8,
    activations_of_linears_only,
    activations_per_tensor,
    both_inputs_quantized,
    constant_scales,
    known_quantized_types,
    large_enough,
    no_code_of_minus_128,
    normal_fp16_scales,
    one_pair_per_input,
    scale_type,
    signed_int8,
    smoothing_folded,
    weight_form,
    weights_per_channel,
    zero_points_given,
    zero_points_zero,
)
from .type_rules import (
    casts_needed,
    constant_axes,
    finite_constants,
    layer_norm_in_fp32,
    layer_norm_whole,
    no_wide_types,
    types_agree,
    uint8_at_the_edge,
)

DOCS = "https://docs.nvidia.com/deeplearning/tensorrt"
PARSER_REPOSITORY = "https://github.com/onnx/onnx-tensorrt/blob"
EXPLICIT = (
    f"NVIDIA TensorRT, Explicit Quantization: {DOCS}/latest/inference-library/"
    "quantized-types-explicit-quantization.html"
)
QUANTIZED = (
    f"NVIDIA TensorRT, Working with Quantized Types: {DOCS}/latest/inference-library/work-with-quantized-types.html"
)
PRECISION = f"NVIDIA TensorRT, Precision Control: {DOCS}/latest/inference-library/precision-control.html"
SHAPES = f"NVIDIA TensorRT, Working with Dynamic Shapes: {DOCS}/latest/inference-library/work-dynamic-shapes.html"
GUIDE_86 = (
    "NVIDIA TensorRT 8.6 Developer Guide, Explicit Quantization, Quantized Weights: "
    f"{DOCS}/archives/tensorrt-861/developer-guide/index.html"
)
RELEASE_86 = "NVIDIA TensorRT 8.6 release notes, quoted in https://github.com/NVIDIA/TensorRT/issues/3657"
OPERATORS = f"onnx-tensorrt, docs/operators.md of the release: {PARSER_REPOSITORY}/main/docs/operators.md"
CHANGES = f"onnx-tensorrt, ONNX release in docs/Changelog.md: {PARSER_REPOSITORY}/main/docs/Changelog.md"
PARSER = f"onnx-tensorrt, QuantDequantLinearHelper: {PARSER_REPOSITORY}/release/8.6-GA/builtin_op_importers.cpp"
ONNX_SPEC = "ONNX, Operator Schemas: https://onnx.ai/onnx/operators/"
ONNX_QUANTIZE = "ONNX, QuantizeLinear: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html"
MODELOPT = (
    "NVIDIA Model Optimizer, ONNX quantization: https://nvidia.github.io/Model-Optimizer/guides/_onnx_quantization.html"
)
WEIGHT_RANGE = (
    "LiteRT 8-bit quantization specification, weights are restricted to [-127, 127]: "
    "https://ai.google.dev/edge/litert/models/quantization_spec"
)
BINARY16 = "IEEE 754 binary16: normal numbers lie between 6.1e-5 and 65504"


@dataclass(frozen=True)
class Rule:
    """A named check, why it matters and where it is written down."""

    name: str
    check: Callable[[CheckedModel], Broken]
    source: str
    why: str


VALID = Rule("valid-onnx", valid_nodes, ONNX_SPEC, "No parser has to understand an invalid file.")
RULES = (
    Rule("opset", opset, OPERATORS, "The parser of this release does not know newer operator definitions."),
    Rule("ir-version", ir_version, CHANGES, "The parser was built with an older ONNX and may misread a newer file."),
    Rule("operators", operators, OPERATORS, "The parser stops at an operator that it cannot import."),
    Rule("standard-domain", custom_domain, OPERATORS, "An operator of another domain needs a plugin on the device."),
    Rule(
        "static-shapes",
        static_shapes,
        SHAPES,
        "A dynamic axis needs an optimization profile, and kernels are tuned for its optimum only.",
    ),
    Rule(
        "signed-int8",
        signed_int8,
        PARSER,
        "TensorRT's INT8 is signed: it refuses a UINT8 node, or computes other values than the file says.",
    ),
    Rule(
        "quantized-types",
        known_quantized_types,
        QUANTIZED,
        "Each release reads the quantized types that it knows, INT4 for weights alone, and stops at any other.",
    ),
    Rule(
        "zero-point-zero",
        zero_points_zero,
        OPERATORS,
        "TensorRT quantizes symmetrically and refuses any other zero point.",
    ),
    Rule(
        "zero-point-given",
        zero_points_given,
        PARSER,
        "TensorRT 8 requires a constant zero point with as many elements as the scale.",
    ),
    Rule("constant-scale", constant_scales, PARSER, "The parser requires positive, constant scales."),
    Rule(
        "scale-not-subnormal",
        normal_fp16_scales,
        BINARY16,
        "A subnormal FP16 scale has lost precision, and is zero where subnormals are flushed.",
    ),
    Rule(
        "scale-type",
        scale_type,
        ONNX_QUANTIZE,
        "FP16 scales exist from operator set 19 on, and TensorRT 8 reads every scale as FP32.",
    ),
    Rule(
        "weight-form",
        weight_form,
        GUIDE_86,
        "Before TensorRT 10, weights are FP32 constants behind QuantizeLinear and DequantizeLinear.",
    ),
    Rule(
        "linear-inputs-only",
        activations_of_linears_only,
        EXPLICIT,
        "Q/DQ anywhere but on the input of a weighted layer breaks fusions, and residual adds, normalisation, "
        "softmax and coordinates lose accuracy in INT8.",
    ),
    Rule(
        "one-pair-per-input",
        one_pair_per_input,
        EXPLICIT,
        "Layers that read the same activation share one quantization: a second is a second pass over memory, and "
        "stops the layers from being fused side by side.",
    ),
    Rule(
        "both-inputs-quantized",
        both_inputs_quantized,
        EXPLICIT,
        "A layer runs in INT8 only when its activation and its weight are both quantized.",
    ),
    Rule(
        "weights-per-channel",
        weights_per_channel,
        EXPLICIT,
        "Weights have one scale per output channel: one for all loses accuracy, another axis is refused.",
    ),
    Rule(
        "weight-codes",
        no_code_of_minus_128,
        WEIGHT_RANGE,
        "ARM CPUs without dot products add two products of 8 bits in 16, which wraps with a weight of -128 and with no "
        "other; symmetric weights do not need it.",
    ),
    Rule("activations-per-tensor", activations_per_tensor, EXPLICIT, "Activations have one scale per tensor."),
    Rule(
        "large-enough-for-int8",
        large_enough,
        MODELOPT,
        f"Below {SMALLEST_INT8} channels INT8 gains nothing, and TensorRT warns that it finds no kernel.",
    ),
    Rule(
        "smoothing-folded",
        smoothing_folded,
        EXPLICIT,
        "A per-channel factor left over from SmoothQuant is one more pass over memory in front of a layer; it folds "
        "into the layer before.",
    ),
    Rule(
        "no-wide-types",
        no_wide_types,
        OPERATORS,
        "TensorRT 8 clamps INT64 to INT32, DOUBLE is cast down, and INT64 arithmetic is slow.",
    ),
    Rule(
        "uint8-at-the-edge",
        uint8_at_the_edge,
        OPERATORS,
        "UINT8 is for graph inputs and outputs only, next to a Cast from or to floating point.",
    ),
    Rule(
        "types-agree",
        types_agree,
        PRECISION,
        "A strongly typed network takes types as written: the operands of one operator must agree.",
    ),
    Rule(
        "casts-needed",
        casts_needed,
        PRECISION,
        "Every Cast is a kernel of its own or stops a fusion; these change nothing.",
    ),
    Rule(
        "finite-constants",
        finite_constants,
        BINARY16,
        "An infinity or NaN in a constant spreads to the outputs; in FP16 it means overflow.",
    ),
    Rule(
        "layer-norm-whole",
        layer_norm_whole,
        RELEASE_86,
        "Written out, a LayerNorm overflows in FP16; as one operator (operator set 17) it accumulates in FP32.",
    ),
    Rule(
        "layer-norm-in-fp32",
        layer_norm_in_fp32,
        OPERATORS,
        "LayerNorm has to accumulate in FP32, and only its first output exists.",
    ),
    Rule("constant-axes", constant_axes, OPERATORS, "These axes must be constants when the network is built."),
)
