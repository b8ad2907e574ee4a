"""The graph of an ONNX file, with the questions that rules ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from .releases import Version

if TYPE_CHECKING:
    import onnx_ir as ir

WEIGHTED = ("MatMul", "Gemm", "Conv", "ConvTranspose")
# A scale per tensor commutes with these, so TensorRT moves Q/DQ through them to the layer behind.
MOVES_DATA = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity")
Broken = Iterator[tuple[str, str]]  # (node, message)


@dataclass(frozen=True)
class CheckedModel:
    """The file under examination, with the questions that several rules ask."""

    model: ir.Model
    version: Version
    allow_dynamic: bool

    @cached_property
    def nodes(self) -> tuple[ir.Node, ...]:
        return tuple(self.model.graph.all_nodes())

    @property
    def opset(self) -> int:
        return self.model.opset_imports.get("", 0)

    def of_type(self, *kinds: str) -> Iterator[ir.Node]:
        return (node for node in self.nodes if node.op_type in kinds and node.domain in ("", "ai.onnx"))

    @cached_property
    def quantizers(self) -> tuple[ir.Node, ...]:
        """QuantizeLinear nodes on activations."""
        return tuple(node for node in self.of_type("QuantizeLinear") if constant_source(node.inputs[0]) is None)

    @cached_property
    def linears(self) -> tuple[tuple[ir.Node, ir.Value, ir.Value], ...]:
        """Layers with constant weights: (node, activation, weight)."""
        found = []
        for node in self.of_type(*WEIGHTED):
            first, second = node.inputs[:2]
            if constant_source(second) is not None:
                found.append((node, first, second))
            elif constant_source(first) is not None and node.op_type in ("MatMul", "Gemm"):
                found.append((node, second, first))
        return tuple(found)


def is_a(node: ir.Node | None, *kinds: str) -> TypeGuard[ir.Node]:
    return node is not None and node.op_type in kinds and node.domain in ("", "ai.onnx")


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of an initializer or of a Constant node's output."""
    from onnx_ir.convenience import get_const_tensor

    tensor = None if value is None else get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def constant_source(value: ir.Value | None) -> np.ndarray | None:
    """The array behind a value that is a constant, seen through Q, DQ, Cast and moved data."""
    while value is not None:
        array = constant(value)
        if array is not None:
            return array
        node = value.producer()
        if not is_a(node, "QuantizeLinear", "DequantizeLinear", "Cast", *MOVES_DATA):
            return None
        value = node.inputs[0]
    return None


def dtype(value: ir.Value | None) -> str:
    """The element type's ONNX name, or an empty string where it is unknown."""
    if value is None:
        return ""
    if value.type is None and value.const_value is not None:
        return value.const_value.dtype.name
    return value.dtype.name if value.dtype is not None else ""


def _type_names() -> dict[int, str]:
    from onnx_ir import DataType

    return {int(kind): kind.name for kind in DataType}


def quantized_type(node: ir.Node) -> str:
    """What a QuantizeLinear makes or a DequantizeLinear reads, by its ONNX name; empty where it is unknown."""
    if node.op_type == "DequantizeLinear":
        return dtype(node.inputs[0])
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return dtype(node.inputs[2])
    number = node.attributes.get_int("output_dtype", 0)
    return _type_names().get(number, f"type {number}") if number else "UINT8"


def is_int8(node: ir.Node | None) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear works in 8-bit integers: rules on INT8 are about no other type."""
    return is_a(node, "QuantizeLinear", "DequantizeLinear") and quantized_type(node) in ("INT8", "UINT8", "")


def name_of(node: ir.Node) -> str:
    return node.name or (node.outputs[0].name if node.outputs else None) or node.op_type


def back_through(value: ir.Value | None, *kinds: str) -> ir.Value | None:
    """The value before the nodes of these kinds that lead to it."""
    while value is not None:
        node = value.producer()
        if not is_a(node, *kinds):
            break
        value = node.inputs[0]
    return value


def readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Who reads a value, seen through operators that only move data."""
    todo = list(value.uses())
    while todo:
        node, index = todo.pop(0)
        if is_a(node, *MOVES_DATA) and index == 0:
            todo = [*node.outputs[0].uses(), *todo]
        else:
            yield node, index


def back(value: ir.Value) -> ir.Node | None:
    """What made a value, seen through moved data and casts."""
    return producer_of(back_through(value, *MOVES_DATA, "Cast"))


def producer_of(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def is_normalised(value: ir.Value | None) -> bool:
    """Whether a value is what a written-out LayerNorm divides by its deviation: a factor on it is the norm's gain."""
    divided = producer_of(value)
    return is_a(divided, "Div") and is_a(producer_of(divided.inputs[1]), "Sqrt")
