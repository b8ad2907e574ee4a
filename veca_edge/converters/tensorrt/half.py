"""What a file computes in FP16 on a board, written out so that ONNX Runtime computes it on a CPU.

ONNX Runtime has next to no FP16 kernels for CPUs: it computes such files in float32, and drops the casts between an
operator and the next. So they look more precise than they are, and numbers beyond 65504, which are infinite on the
board, pass without a trace: the gated product of a feed-forward does. Here what is FP16 on the board becomes float32
that is rounded to FP16 after every operator.

Within an operator sums stay float32. TensorRT may keep those of FP16 products in FP16 ("Control of Computational
Precision", Developer Guide). With cuBLAS doing so on an H100, random `small` and `base` at 256 px were 4e-6 and 6e-6
(1 - cosine) from float32, instead of 2e-6 and 3e-6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...base.errors import EdgeError
from ...bundle.details import TensorrtDetails
from ...rules.tensorrt.graph import MOVES_DATA
from ...rules.tensorrt.reading import MAX_FILE_BYTES, read_onnx

if TYPE_CHECKING:
    import onnx_ir as ir

# Their results are values that they were given. What DequantizeLinear gives an INT8 product is never FP16: TensorRT
# multiplies the codes, and scales sums that it keeps in float32 ("Explicit Quantization", Developer Guide).
EXACT_OPERATORS = frozenset((*MOVES_DATA, "Concat", "DequantizeLinear", "Expand", "Gather", "Slice", "Split"))
QUANTIZING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_LAYER_TYPES = "--layerPrecisions="


def computes_in_half(details: TensorrtDetails, precision: str) -> bool:
    """Whether a file is FP16 on the board, as written or as the builder may choose."""
    return precision != "fp32" and (details.strongly_typed or "--fp16" in details.build_flags)


def rounded_to_half(path: Path, details: TensorrtDetails) -> bytes:
    """An ONNX file in float32 with every rounding to FP16 written out, for `computes_in_half` files.

    A strongly typed file is rounded where it says FP16. Of other files the builder chooses the types: all is rounded
    but the layers that `--layerPrecisions` keeps in float32, which is the least precise engine that it may build.

    Raises:
        EdgeError: the file is missing or broken, or too large for one ONNX file in float32.
        MissingDependency: the package `onnx_ir` is not installed.
    """
    model = read_onnx(path)
    import onnx_ir as ir

    kept = None if details.strongly_typed else float32_layers(details.build_flags)
    half = set(_typed_half(model) if kept is None else _chosen_half(model, kept))
    for node in list(model.graph):
        _widen_attributes(node)
        for value in [value for value in node.outputs if value in half]:
            _round(model.graph, node, value)
    for value in model.graph.initializers.values():
        if value in half and value.const_value is not None:
            with np.errstate(over="ignore"):
                rounded = value.const_value.numpy().astype(np.float16).astype(np.float32)
            value.const_value = ir.tensor(rounded, name=value.name)
            value.dtype = ir.DataType.FLOAT
    if sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value) > MAX_FILE_BYTES:
        raise EdgeError(
            f"'{path}' is too large to be checked on a CPU: in float32 it takes more than 2 GiB.",
            "Check it on the board: veca-edge build BUNDLE --device ssh://HOST",
        )
    return ir.to_proto(ir.external_data.load_to_model(model)).SerializeToString()


def float32_layers(build_flags: Collection[str]) -> frozenset[str]:
    """The layers that a weakly typed build has to keep in float32, by name."""
    listed = next((flag for flag in build_flags if flag.startswith(_LAYER_TYPES)), _LAYER_TYPES)
    pairs = (pair.rpartition(":") for pair in listed.removeprefix(_LAYER_TYPES).split(",") if pair)
    return frozenset(name for name, _, dtype in pairs if dtype == "fp32")


def _typed_half(model: ir.Model) -> Iterator[ir.Value]:
    """What a strongly typed file says is FP16."""
    import onnx_ir as ir

    values = (value for node in model.graph for value in node.outputs)
    yield from (v for v in (*model.graph.initializers.values(), *values) if v.dtype == ir.DataType.FLOAT16)


def _chosen_half(model: ir.Model, kept: Collection[str]) -> Iterator[ir.Value]:
    """What the builder may make FP16 of a file that is float32 all through: results and constants of other layers."""
    import onnx_ir as ir

    def may_be_half(node: ir.Node) -> bool:
        return node.name not in kept and node.op_type not in QUANTIZING

    for node in model.graph:
        if may_be_half(node):
            yield from (value for value in node.outputs if value.dtype == ir.DataType.FLOAT)
    for value in model.graph.initializers.values():
        if value.dtype == ir.DataType.FLOAT and all(may_be_half(node) for node, _ in value.uses()):
            yield value


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Rounds a result. What its readers get keeps the name; what is computed gets another."""
    import onnx_ir as ir

    if node.op_type in EXACT_OPERATORS:
        value.dtype = ir.DataType.FLOAT
        return
    name, readers = value.name, tuple(value.uses())
    casts = [] if node.op_type == "Cast" and value.dtype == ir.DataType.FLOAT16 else [ir.DataType.FLOAT16]
    if casts:
        value.dtype = ir.DataType.FLOAT
    value.name = f"{name}/computed"
    rounded = value
    for dtype in (*casts, ir.DataType.FLOAT):
        cast = ir.node("Cast", [rounded], {"to": dtype}, name=f"{name}/{dtype.name}")
        graph.insert_after(node, cast)
        node, rounded = cast, cast.outputs[0]
        rounded.name, rounded.shape, rounded.dtype = cast.name, value.shape, dtype
    rounded.name = name
    for reader, i in readers:
        reader.replace_input_with(i, rounded)
    for i, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[i] = rounded


def _widen_attributes(node: ir.Node) -> None:
    """Makes FP16 constants within a node float32."""
    import onnx_ir as ir

    for name, attribute in node.attributes.items():
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == ir.DataType.FLOAT16:
            wide = ir.tensor(attribute.as_tensor().numpy().astype(np.float32))
            node.attributes[name] = ir.AttrTensor(name, wide)
