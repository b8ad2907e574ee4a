"""LiteRT's operators, as far as VECA needs them: one method each, with its version and its options.

Every method takes and returns tensor indices of the subgraph. Versions are the lowest that have the form (LiteRT's
`op_version.cc`), so that a phone's runtime is not asked for more than it needs. Matrix products are never asked to
transpose an operand: the OpenCL GPU delegate ignores that flag and multiplies wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .flatbuffer import TfliteBuilder, broadcast


class Subgraph:
    """One subgraph while it is being written. `enter` names what follows, for people who look at the file."""

    def __init__(self, file: TfliteBuilder, name: str):
        self.file, self.schema = file, file.schema
        self.operator, self.type = file.schema.BuiltinOperator, file.schema.TensorType
        self.types = {
            np.dtype(np.float32): self.type.FLOAT32,
            np.dtype(np.float16): self.type.FLOAT16,
            np.dtype(np.int32): self.type.INT32,
            np.dtype(np.int8): self.type.INT8,
            np.dtype(np.uint8): self.type.UINT8,
        }
        self.table = file.schema.SubGraphT()
        self.table.name, self.table.tensors, self.table.operators = name.encode(), [], []
        self.index = len(file.model.subgraphs)
        file.model.subgraphs.append(self.table)
        self._constants: dict[tuple, int] = {}
        self._scope, self._count = "in", 0

    def enter(self, scope: str) -> None:
        self._scope, self._count = scope, 0

    def _next_name(self) -> str:
        self._count += 1
        return f"{self._scope}_{self._count}"

    # ------------------------------------------------------------------------------- tensors

    def tensor(
        self, shape: Sequence[int], dtype: Any = np.float32, name: str = "", buffer: int = 0, quantization: Any = None
    ) -> int:
        made = self.schema.TensorT()
        made.shape, made.type, made.buffer = [int(n) for n in shape], self.types[np.dtype(dtype)], buffer
        made.name, made.quantization = (name or self._next_name()).encode(), quantization
        self.table.tensors.append(made)
        return len(self.table.tensors) - 1

    def constant(self, array: np.ndarray, name: str = "", scale: np.ndarray | None = None) -> int:
        """A value of the file; `scale` float32 `[n]` makes it the codes of a symmetric INT8 tensor, per row."""
        array = np.ascontiguousarray(array)
        quantization = None if scale is None else self.file.quantization(scale)
        buffer = self.file.buffer(array.tobytes())
        key = buffer, array.shape, array.dtype, id(quantization)
        if key not in self._constants:
            self._constants[key] = self.tensor(array.shape, array.dtype, name, buffer, quantization)
        return self._constants[key]

    def floats(self, array: np.ndarray, name: str = "") -> int:
        return self.constant(np.asarray(array, np.float32), name)

    def ints(self, values: Sequence[int]) -> int:
        return self.constant(np.array(values, np.int32))

    def shape(self, tensor: int) -> list[int]:
        return list(self.table.tensors[tensor].shape)

    def rename(self, tensor: int, name: str) -> None:
        self.table.tensors[tensor].name = name.encode()

    # ----------------------------------------------------------------------------- operators

    def add_operator(
        self,
        operator: str,
        inputs: Sequence[int],
        shapes: Sequence[Sequence[int]],
        options: Any = None,
        version: int = 1,
        dtype: Any = np.float32,
        name: str = "",
    ) -> list[int]:
        """Appends one operator; `options` is its table, of the schema's type `...OptionsT`."""
        made = self.schema.OperatorT()
        made.opcodeIndex = self.file.code(getattr(self.operator, operator), version)
        made.inputs = list(inputs)
        made.outputs = [self.tensor(shape, dtype, name) for shape in shapes]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType, made.builtinOptions = getattr(self.schema.BuiltinOptions, kind), options
        self.table.operators.append(made)
        return made.outputs

    def elementwise(self, operator: str, a: int, b: int) -> int:
        """ADD, SUB, MUL or DIV, with broadcasting."""
        options = getattr(self.schema, f"{operator.capitalize()}OptionsT")()
        (made,) = self.add_operator(operator, [a, b], [broadcast(self.shape(a), self.shape(b))], options)
        return made

    def add(self, a: int, b: int) -> int:
        return self.elementwise("ADD", a, b)

    def sub(self, a: int, b: int) -> int:
        return self.elementwise("SUB", a, b)

    def mul(self, a: int, b: int) -> int:
        return self.elementwise("MUL", a, b)

    def div(self, a: int, b: int) -> int:
        return self.elementwise("DIV", a, b)

    def unary(self, operator: str, x: int) -> int:
        """RSQRT, TANH, SIN, COS, LOGISTIC or RELU."""
        options = self.schema.CosOptionsT() if operator == "COS" else None  # the only one with a table
        (made,) = self.add_operator(operator, [x], [self.shape(x)], options)
        return made

    def mean(self, x: int) -> int:
        """Over the last axis, which stays with length 1."""
        options = self.schema.ReducerOptionsT()
        options.keepDims = True
        shape = self.shape(x)
        (made,) = self.add_operator("MEAN", [x, self.ints([len(shape) - 1])], [[*shape[:-1], 1]], options)
        return made

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        options = self.schema.ReshapeOptionsT()
        options.newShape = list(shape)
        (made,) = self.add_operator("RESHAPE", [x, self.ints(shape)], [shape], options)
        return made

    def transpose(self, x: int, axes: Sequence[int]) -> int:
        shape = self.shape(x)
        options = self.schema.TransposeOptionsT()
        (made,) = self.add_operator("TRANSPOSE", [x, self.ints(axes)], [[shape[i] for i in axes]], options)
        return made

    def concat(self, parts: Sequence[int], axis: int) -> int:
        if len(parts) == 1:
            return parts[0]
        options = self.schema.ConcatenationOptionsT()
        options.axis = axis
        shape = self.shape(parts[0])
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        (made,) = self.add_operator("CONCATENATION", parts, [shape], options)
        return made

    def rows(self, x: int, start: int, stop: int, axis: int) -> int:
        """start..stop along an axis; the tensor itself where that is all of it."""
        shape = self.shape(x)
        if (start, stop) == (0, shape[axis]):
            return x
        begin = [0] * len(shape)
        begin[axis], shape[axis] = start, stop - start
        options = self.schema.SliceOptionsT()
        (made,) = self.add_operator("SLICE", [x, self.ints(begin), self.ints(shape)], [shape], options)
        return made

    def halves(self, x: int, axis: int) -> tuple[int, int]:
        shape = self.shape(x)
        shape[axis] //= 2
        options = self.schema.SplitOptionsT()
        options.numSplits = 2
        axis_tensor = self.constant(np.array(axis, np.int32))
        first, second = self.add_operator("SPLIT", [axis_tensor, x], [shape, shape], options)
        return first, second

    def softmax(self, x: int) -> int:
        options = self.schema.SoftmaxOptionsT()
        options.beta = 1.0
        (made,) = self.add_operator("SOFTMAX", [x], [self.shape(x)], options)
        return made

    def matmul(self, a: int, b: int) -> int:
        """`[..., n, k]` times `[..., k, m]`, of equal rank."""
        options = self.schema.BatchMatMulOptionsT()
        left, right = self.shape(a), self.shape(b)
        shape = [*broadcast(left[:-2], right[:-2]), left[-2], right[-1]]
        (made,) = self.add_operator("BATCH_MATMUL", [a, b], [shape], options)
        return made

    def argmax(self, x: int) -> int:
        """int32, over the last axis, which goes."""
        options = self.schema.ArgMaxOptionsT()
        options.outputType = self.type.INT32
        inputs, shape = [x, self.constant(np.array(len(self.shape(x)) - 1, np.int32))], self.shape(x)[:-1]
        (made,) = self.add_operator("ARG_MAX", inputs, [shape], options, dtype=np.int32)
        return made

    def dequantize(self, x: int) -> int:
        """uint8 or float16 to float32."""
        half = self.table.tensors[x].type == self.type.FLOAT16
        (made,) = self.add_operator(
            "DEQUANTIZE", [x], [self.shape(x)], self.schema.DequantizeOptionsT(), version=3 if half else 1
        )
        return made

    def linear(self, x: int, weight: int, bias: np.ndarray, name: str = "") -> int:
        """`x @ weight.T + bias` on the last axis; `weight` `[out, in]` is float32, or INT8 with a scale per row.

        With INT8 weights the runtime quantizes `x` itself, asymmetrically and row by row.
        """
        options = self.schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        quantized = self.table.tensors[weight].type == self.type.INT8
        options.asymmetricQuantizeInputs = quantized
        inputs, shape = [x, weight, self.floats(bias)], [*self.shape(x)[:-1], len(bias)]
        version = 12 if quantized else 5
        (made,) = self.add_operator("FULLY_CONNECTED", inputs, [shape], options, version, name=name)
        return made

    def convolution(self, x: int, weight: int, bias: np.ndarray, stride: int) -> int:
        """`[B, H, W, in]` with `weight` `[out, h, w, in]`, without padding."""
        options = self.schema.Conv2DOptionsT()
        options.padding, options.strideH, options.strideW = self.schema.Padding.VALID, stride, stride
        options.dilationHFactor = options.dilationWFactor = 1
        batch, height, width, _ = self.shape(x)
        channels, rows, columns, _ = self.shape(weight)
        shape = [batch, (height - rows) // stride + 1, (width - columns) // stride + 1, channels]
        (made,) = self.add_operator("CONV_2D", [x, weight, self.floats(bias)], [shape], options)
        return made
