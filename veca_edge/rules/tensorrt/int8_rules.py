"""Rules on quantization."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .graph import (
    Broken,
    CheckedModel,
    back,
    back_through,
    constant,
    constant_source,
    dtype,
    is_a,
    is_int8,
    is_normalised,
    name_of,
    producer_of,
    quantized_type,
    readers,
)
from .releases import QUANTIZED_TYPES

if TYPE_CHECKING:
    import onnx_ir as ir

SMALLEST_INT8 = 16
SMALLEST_NORMAL_FP16 = float(np.finfo(np.float16).smallest_normal)


def signed_int8(subject: CheckedModel) -> Broken:
    for node in subject.of_type("QuantizeLinear", "DequantizeLinear"):
        if quantized_type(node) == "UINT8":
            yield name_of(node), f"{node.op_type} works in UINT8"


def known_quantized_types(subject: CheckedModel) -> Broken:
    for node in subject.of_type("QuantizeLinear", "DequantizeLinear"):
        if is_int8(node):
            continue
        kind = quantized_type(node)
        since = QUANTIZED_TYPES.get(kind)
        if since is None:
            yield name_of(node), f"{node.op_type} works in {kind}, which no release is known to read"
        elif subject.version < since:
            yield name_of(node), f"{node.op_type} works in {kind}, which TensorRT reads from {since[0]}.{since[1]} on"
        elif kind == "INT4" and node.op_type == "QuantizeLinear" and constant_source(node.inputs[0]) is None:
            yield name_of(node), "an activation is quantized to INT4, which is for weights only"


def zero_points_zero(subject: CheckedModel) -> Broken:
    for node in subject.of_type("QuantizeLinear", "DequantizeLinear"):
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if zero is not None and np.any(zero):
            yield name_of(node), f"the zero point is {zero.reshape(-1)[np.argmax(zero.reshape(-1) != 0)]}"


def zero_points_given(subject: CheckedModel) -> Broken:
    if subject.version >= (9, 0):
        return
    for node in filter(is_int8, subject.of_type("QuantizeLinear", "DequantizeLinear")):
        zero, scale = constant(node.inputs[2]) if len(node.inputs) > 2 else None, constant(node.inputs[1])
        if zero is None:
            yield name_of(node), f"{node.op_type} has no constant zero point"
        elif scale is not None and zero.size != scale.size:
            yield name_of(node), f"{scale.size} scales and {zero.size} zero points"


def constant_scales(subject: CheckedModel) -> Broken:
    for node in subject.of_type("QuantizeLinear", "DequantizeLinear"):
        scale = constant(node.inputs[1])
        if scale is None:
            if is_int8(node):  # the scales of FP4 are quantized themselves
                yield name_of(node), "the scale is computed, not a constant"
        # As float64: a power of two (E8M0, of MXFP8) cannot be compared with the zero that it does not have.
        elif not np.all(np.isfinite(wide := scale.astype(np.float64)) & (wide > 0)):
            yield name_of(node), "a scale is zero, negative or not finite"


def normal_fp16_scales(subject: CheckedModel) -> Broken:
    for node in subject.of_type("QuantizeLinear", "DequantizeLinear"):
        scale = constant(node.inputs[1])
        if scale is not None and scale.dtype == np.float16 and np.any(scale < SMALLEST_NORMAL_FP16):
            yield name_of(node), f"the smallest scale is {scale.min():.1e}, below {SMALLEST_NORMAL_FP16:.1e}"


def scale_type(subject: CheckedModel) -> Broken:
    for node in subject.of_type("QuantizeLinear", "DequantizeLinear"):
        if dtype(node.inputs[1]) not in ("FLOAT16", "BFLOAT16"):
            continue
        if subject.opset < 19:
            yield name_of(node), f"the scale is {dtype(node.inputs[1])} in operator set {subject.opset}"
        elif subject.version < (9, 0):
            yield name_of(node), f"the scale is {dtype(node.inputs[1])}"


def weight_form(subject: CheckedModel) -> Broken:
    if subject.version >= (10, 0):
        return
    for node in filter(is_int8, subject.of_type("DequantizeLinear")):
        if constant(node.inputs[0]) is not None:
            yield name_of(node), "the weight is stored as INT8 and dequantized"


def activations_of_linears_only(subject: CheckedModel) -> Broken:
    inputs = {(id(node), node.inputs.index(x)) for node, x, _ in subject.linears}
    for node in filter(is_int8, subject.quantizers):
        others = {reader.op_type for reader, index in after_dequantizing(node) if (id(reader), index) not in inputs}
        if others:
            yield name_of(node), f"the quantized activation feeds {', '.join(sorted(others))}"
        if any(out.is_graph_output() for out in node.outputs):
            yield name_of(node), "the quantized activation is a graph output"


def after_dequantizing(quantizer: ir.Node) -> Iterator[tuple[ir.Node, int]]:
    for node, index in readers(quantizer.outputs[0]):
        if is_a(node, "DequantizeLinear") and index == 0:
            yield from readers(node.outputs[0])
        else:
            yield node, index


def one_pair_per_input(subject: CheckedModel) -> Broken:
    seen: dict[int, str] = {}
    for node in subject.quantizers:
        source = node.inputs[0]
        first = seen.setdefault(id(source), name_of(node))
        if source is not None and first != name_of(node):
            yield name_of(node), f"'{source.name}' is already quantized by '{first}'"
        dequantizers = sum(is_a(reader, "DequantizeLinear") for reader, _ in node.outputs[0].uses())
        if dequantizers > 1:
            yield name_of(node), f"{dequantizers} DequantizeLinear nodes read it"


def both_inputs_quantized(subject: CheckedModel) -> Broken:
    for node, x, weight in subject.linears:
        pair = [back(value) for value in (x, weight)]
        left, right = (is_a(made, "DequantizeLinear") for made in pair)
        # A weight alone may well be INT4.
        if left != right and is_int8(pair[0] if left else pair[1]):
            yield name_of(node), f"only the {'activation' if left else 'weight'} of this {node.op_type} is quantized"


def weights_per_channel(subject: CheckedModel) -> Broken:
    for node, _, weight in subject.linears:
        flipped = is_a(weight.producer(), "Transpose")
        dequantizer = producer_of(back_through(weight, "Transpose"))
        if not is_a(dequantizer, "DequantizeLinear") or not is_int8(dequantizer):
            continue
        scale, array = constant(dequantizer.inputs[1]), constant_source(weight)
        if scale is None or array is None or array.ndim < 2 or (flipped and array.ndim != 2):
            continue
        axis = dequantizer.attributes.get_int("axis", 1) % array.ndim
        wanted = output_axis(node, weight, array.ndim) ^ flipped
        if scale.size == 1:
            yield name_of(node), "one weight scale for all output channels"
        elif scale.shape != (array.shape[axis],) or axis != wanted:
            yield (
                name_of(node),
                (
                    f"the weight scales, of shape {scale.shape}, lie on axis {axis}; "
                    f"the output channels are axis {wanted}"
                ),
            )


def output_axis(node: ir.Node, weight: ir.Value, rank: int) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    position = node.inputs.index(weight)
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB" if position else "transA", 0)
    return rank - 1 if bool(transposed) != (position == 1) else rank - 2


def no_code_of_minus_128(subject: CheckedModel) -> Broken:
    for value in subject.model.graph.initializers.values():
        if dtype(value) == "INT8":
            codes = constant(value)
            if codes is not None and codes.ndim > 1 and (count := int(np.sum(codes == -128))):
                yield value.name or "", f"{count} of {codes.size} codes of '{value.name}' are -128"


def activations_per_tensor(subject: CheckedModel) -> Broken:
    for node in filter(is_int8, subject.quantizers):
        scale = constant(node.inputs[1])
        if scale is not None and scale.size != 1:
            yield name_of(node), f"{scale.size} scales on an activation"


def large_enough(subject: CheckedModel) -> Broken:
    for node, x, weight in subject.linears:
        array = constant_source(weight)
        made = back(x)
        if not is_a(made, "DequantizeLinear") or not is_int8(made) or array is None or array.ndim < 2:
            continue
        channels = (array.shape[0], array.shape[1]) if node.op_type.startswith("Conv") else array.shape[-2:]
        if min(channels) < SMALLEST_INT8:
            yield name_of(node), f"a quantized {node.op_type} with {channels[0]} and {channels[1]} channels"


def smoothing_folded(subject: CheckedModel) -> Broken:
    for node in subject.quantizers:
        before = producer_of(node.inputs[0])
        if is_a(before, "Mul", "Div") and not any(map(is_normalised, before.inputs)):
            arrays = [a for a in map(constant, before.inputs) if a is not None]
            if any(a.size > 1 and a.size == a.shape[-1] for a in arrays):
                yield name_of(before), f"a {before.op_type} by a constant vector in front of '{name_of(node)}'"
