"""Reads `.tflite` files: subgraphs, signatures, constants and metadata, as they lie on disk.

LiteRT's generated schema finds the fields; what it finds is checked here, because LiteRT itself trusts a file and may
crash on a damaged one. Whatever holds an index is in range, every constant has the bytes of its type and shape, and
every tensor is made before it is used. Format: `schema.fbs`, version 3.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..base.errors import EdgeError, MissingDependency
from ..base.files import open_regular

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
DAMAGED_HINT = "The file is damaged, or no LiteRT model: copy or export it again."
MAX_BYTES = 4 << 30
MAX_RANK = 8
# Of subgraphs, tensors, operators and so on in one file: a hundred times what a large model has.
MAX_ENTRIES = 1_000_000
MAX_NAME_BYTES = 16 << 10
# Of all names, scales and zero points together: any number of tables may share one, and each would have its copy.
MAX_COPIED_BYTES = 64 << 20
# What a value of a type takes; types of less than a byte, and strings, are not looked into.
BYTES = {
    "FLOAT32": 4,
    "FLOAT16": 2,
    "BFLOAT16": 2,
    "INT32": 4,
    "UINT8": 1,
    "INT64": 8,
    "BOOL": 1,
    "INT16": 2,
    "INT8": 1,
    "FLOAT64": 8,
    "UINT64": 8,
    "UINT32": 4,
    "UINT16": 2,
}
# Options that a rule asks for: the table of an operator, and the fields by our names.
_OPTIONS = {
    "FULLY_CONNECTED": ("FullyConnectedOptions", {"keep_num_dims": "KeepNumDims"}),
    "BATCH_MATMUL": ("BatchMatMulOptions", {"adj_x": "AdjX", "adj_y": "AdjY"}),
}
# Where the table of a model's fields holds them.
_SUBGRAPHS, _SIGNATURES = 8, 18
# What reading fields at wrong places raises.
_NONSENSE = (struct.error, IndexError, ValueError, TypeError, OverflowError, KeyError, AttributeError)


@dataclass(frozen=True)
class Quantization:
    """Scales of a tensor, `[1]` or one for each index of `axis`, and whether every zero point is 0."""

    scales: np.ndarray = field(repr=False)
    axis: int
    symmetric: bool


@dataclass(frozen=True)
class TfliteTensor:
    """A value of a subgraph. `dtype` as the schema calls it, such as `FLOAT32`; a dynamic dimension is -1.

    `buffer` is the index of its constant bytes, or None.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    buffer: int | None
    quantization: Quantization | None


@dataclass(frozen=True)
class TfliteOperator:
    """`type` is the schema's name, a custom operator's own one, or a number that this schema does not know.

    `inputs` and `outputs` are tensor indices; an input that was left out is -1. `options` holds what rules ask for.
    """

    type: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TfliteSubgraph:
    """`operators` stand in order of execution; `inputs` and `outputs` are tensor indices."""

    name: str
    tensors: tuple[TfliteTensor, ...] = field(repr=False)
    operators: tuple[TfliteOperator, ...] = field(repr=False)
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class TfliteSignature:
    """An entry of the file: a subgraph, and names for its tensors."""

    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True)
class TfliteModel:
    """A file.

    Attributes:
        buffers: start and length of each in the file.
        metadata: index of a buffer, by name.
    """

    path: Path
    subgraphs: tuple[TfliteSubgraph, ...]
    signatures: Mapping[str, TfliteSignature]
    buffers: tuple[tuple[int, int], ...] = field(repr=False)
    metadata: Mapping[str, int]
    data: Any = field(repr=False)

    def content(self, buffer: int) -> bytes:
        """The bytes of a buffer."""
        start, length = self.buffers[buffer]
        return self.data[start : start + length]

    def constant(self, tensor: TfliteTensor) -> np.ndarray:
        """The value of a constant tensor of a type that numpy has."""
        assert tensor.buffer is not None
        dtype = np.dtype(tensor.dtype.lower())
        return np.frombuffer(self.content(tensor.buffer), dtype).reshape(tensor.shape)


def schema_for(purpose: str) -> ModuleType:
    """LiteRT's generated schema. Raises `MissingDependency`."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise MissingDependency("ai-edge-litert", "android", purpose) from None
    return schema_py_generated


@cache
def builtin_operators() -> frozenset[str]:
    """The names of all operators in LiteRT's schema. Raises `MissingDependency`."""
    return frozenset(_names(schema_for("Reading a .tflite file").BuiltinOperator).values())


def read_tflite(path: str | Path) -> TfliteModel:
    """Reads and checks a file. Its constants stay on disk until they are asked for.

    Raises:
        EdgeError: missing, too large, damaged, or no LiteRT model. MissingDependency: no `ai-edge-litert`.
    """
    path = Path(path)
    schema = schema_for("Reading a .tflite file")
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            if size > MAX_BYTES:
                raise EdgeError(
                    f"{path} is larger than the {MAX_BYTES:,} bytes that are read of a .tflite file.",
                    "Is it the file that you mean?",
                )
            if size < 8:
                raise _damaged(path, f"it has {size} bytes")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise EdgeError(f"{path} can't be read: {error.strerror or error}.", "Give a .tflite file.") from error
    if data[4:8] != IDENTIFIER:
        raise _damaged(path, "it does not say that it is one (no 'TFL3')")
    try:
        return _Reader(path, schema, data).model()
    except _NONSENSE as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _damaged(path: Path, what: str) -> EdgeError:
    return EdgeError(f"{path} is not a whole .tflite file: {what}.", DAMAGED_HINT)


class _Reader:
    """Reads one file; whatever does not hold together is a `ValueError`."""

    def __init__(self, path: Path, schema: Any, data: Any):
        self.path, self.schema, self.data = path, schema, data
        self.left, self.bytes_left = MAX_ENTRIES, MAX_COPIED_BYTES
        self.types = _names(schema.TensorType)
        self.operators = _names(schema.BuiltinOperator)

    def each(self, length: int, item: Callable[[int], Any]) -> Iterator[Any]:
        """The entries of a vector, within what all vectors of the file may hold together."""
        self.charge_entries(length)
        for i in range(length):
            yield item(i)

    def charge_entries(self, count: int) -> None:
        self.left -= count
        if count < 0 or self.left < 0:
            raise ValueError(f"it claims to hold more than {MAX_ENTRIES:,} entries")

    def charge_bytes(self, count: int) -> None:
        self.bytes_left -= count
        if count < 0 or self.bytes_left < 0:
            raise ValueError(f"it claims to hold more than {MAX_COPIED_BYTES:,} bytes of names and scales")

    def text(self, value: bytes | None) -> str:
        length = len(value or b"")
        if length > MAX_NAME_BYTES:
            raise ValueError(f"a name in it has {length:,} bytes, and {MAX_NAME_BYTES:,} at most are read")
        self.charge_bytes(length)
        return (value or b"").decode("utf-8", "replace")

    def model(self) -> TfliteModel:
        root = self.schema.Model.GetRootAs(self.data, 0)
        if root.Version() != SCHEMA_VERSION:
            raise ValueError(f"its schema has version {root.Version()}, and version {SCHEMA_VERSION} is known")
        buffers = tuple(self.buffer(b) for b in self.each(root.BuffersLength(), root.Buffers))
        codes = [self.code(c) for c in self.each(root.OperatorCodesLength(), root.OperatorCodes)]
        subgraphs = tuple(self.subgraph(s, codes, buffers) for s in self.each(root.SubgraphsLength(), root.Subgraphs))
        if not subgraphs:
            raise ValueError("it has no subgraph")
        signatures = dict(
            self.signature(s, subgraphs) for s in self.each(root.SignatureDefsLength(), root.SignatureDefs)
        )
        metadata = {}
        for entry in self.each(root.MetadataLength(), root.Metadata):
            metadata[self.text(entry.Name())] = _index(entry.Buffer(), buffers, "buffer")
        return TfliteModel(self.path, subgraphs, signatures, buffers, metadata, self.data)

    def buffer(self, table: Any) -> tuple[int, int]:
        start, length = table.Offset(), table.Size()
        if start <= 1:  # not outside of the flatbuffer
            length = table.DataLength()
            start = table._tab.Vector(table._tab.Offset(4)) if length else 0
        if not 0 <= start <= start + length <= len(self.data):
            raise ValueError(f"a buffer of {length} bytes at {start} does not lie in it")
        return start, length

    def code(self, table: Any) -> tuple[str, int]:
        number = max(table.BuiltinCode(), table.DeprecatedBuiltinCode())
        name = self.operators.get(number, f"operator {number}")
        return (self.text(table.CustomCode()) or name) if name == "CUSTOM" else name, table.Version()

    def subgraph(self, table: Any, codes: Sequence[tuple[str, int]], buffers: Sequence[Any]) -> TfliteSubgraph:
        tensors = tuple(self.tensor(t, buffers) for t in self.each(table.TensorsLength(), table.Tensors))
        inputs = self.indices(table.InputsAsNumpy(), tensors)
        made = {*inputs, *(i for i, tensor in enumerate(tensors) if tensor.buffer is not None)}
        operators = []
        for entry in self.each(table.OperatorsLength(), table.Operators):
            operator = self.operator(entry, codes, tensors)
            # A tensor that nothing makes is a variable, or an operator's scratch; neither is an operator's own output.
            if made & set(operator.outputs):
                raise ValueError(f"a tensor is made twice, by {operator.type:.80} at last")
            made.update(operator.outputs)
            operators.append(operator)
        outputs = self.indices(table.OutputsAsNumpy(), tensors)
        self.check_order(operators, tensors)
        return TfliteSubgraph(self.text(table.Name()), tensors, tuple(operators), inputs, outputs)

    def check_order(self, operators: Sequence[TfliteOperator], tensors: Sequence[TfliteTensor]) -> None:
        """Nothing is used before it is made."""
        later = {o for operator in operators for o in operator.outputs}
        for operator in operators:
            early = later & set(operator.inputs)
            if early:
                raise ValueError(f"{operator.type:.80} uses '{tensors[min(early)].name:.80}' before it is made")
            later -= set(operator.outputs)

    def tensor(self, table: Any, buffers: Sequence[tuple[int, int]]) -> TfliteTensor:
        name, dtype = self.text(table.Name()), self.types.get(table.Type(), f"type {table.Type()}")
        # The signature, where there is one, has -1 for dimensions that a call may choose.
        known = table.ShapeSignatureAsNumpy() if table.ShapeSignatureLength() else table.ShapeAsNumpy()
        rank = known.size if isinstance(known, np.ndarray) else 0
        if rank > MAX_RANK:
            raise ValueError(f"the tensor '{name:.80}' has {rank} dimensions")
        shape = tuple(_array(known, np.int32).tolist())
        if min(shape, default=0) < -1 or prod(max(n, 1) for n in shape) > MAX_BYTES:
            raise ValueError(f"the tensor '{name:.80}' is {list(shape)}")
        buffer = _index(table.Buffer(), buffers, "buffer")
        length = buffers[buffer][1]
        if length and dtype in BYTES and prod(shape) * BYTES[dtype] != length:
            raise ValueError(f"the constant '{name:.80}', {dtype} {list(shape)}, has {length} bytes")
        quantization = self.quantization(table.Quantization(), name, shape)
        return TfliteTensor(name, dtype, shape, buffer if length else None, quantization)

    def quantization(self, table: Any, name: str, shape: tuple[int, ...]) -> Quantization | None:
        if table is None or not table.ScaleLength():
            return None
        self.charge_bytes(4 * table.ScaleLength() + 8 * table.ZeroPointLength())
        scales, points = _array(table.ScaleAsNumpy(), np.float32), _array(table.ZeroPointAsNumpy(), np.int64)
        axis = table.QuantizedDimension()
        if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
            raise ValueError(f"the tensor '{name:.80}', {list(shape)}, has {len(scales)} scales along axis {axis}")
        if len(points) not in (0, len(scales)):
            raise ValueError(f"the tensor '{name:.80}' has {len(scales)} scales and {len(points)} zero points")
        return Quantization(scales, axis, not points.any())

    def operator(self, table: Any, codes: Sequence[tuple[str, int]], tensors: Sequence[TfliteTensor]) -> TfliteOperator:
        kind, version = codes[_index(table.OpcodeIndex(), codes, "operator code")]
        inputs = self.indices(table.InputsAsNumpy(), tensors, lowest=-1)
        outputs = self.indices(table.OutputsAsNumpy(), tensors)
        return TfliteOperator(kind, version, inputs, outputs, self.options(table, kind))

    def options(self, table: Any, kind: str) -> dict[str, Any]:
        name, fields = _OPTIONS.get(kind, ("", {}))
        found = table.BuiltinOptions() if name else None
        if found is None or table.BuiltinOptionsType() != getattr(self.schema.BuiltinOptions, name):
            return dict.fromkeys(fields, False)
        options = getattr(self.schema, name)()
        options.Init(found.Bytes, found.Pos)
        return {ours: getattr(options, theirs)() for ours, theirs in fields.items()}

    def signature(self, table: Any, subgraphs: Sequence[TfliteSubgraph]) -> tuple[str, TfliteSignature]:
        index = _index(table.SubgraphIndex(), subgraphs, "subgraph")
        tensors = subgraphs[index].tensors
        inputs, outputs = (
            {self.text(e.Name()): _index(e.TensorIndex(), tensors, "tensor") for e in self.each(length, item)}
            for length, item in ((table.InputsLength(), table.Inputs), (table.OutputsLength(), table.Outputs))
        )
        return self.text(table.SignatureKey()), TfliteSignature(index, inputs, outputs)

    def indices(self, found: Any, tensors: Sequence[Any], lowest: int = 0) -> tuple[int, ...]:
        self.charge_entries(found.size if isinstance(found, np.ndarray) else 0)
        indices = tuple(_array(found, np.int32).tolist())
        for i in indices:
            _index(i, tensors, "tensor", lowest)
        return indices


def _index(value: Any, of: Sequence[Any], what: str, lowest: int = 0) -> int:
    if not lowest <= value < len(of):
        raise ValueError(f"it names {what} {value} of {len(of)}")
    return int(value)


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _array(found: Any, dtype: type) -> np.ndarray:
    """A copy of a vector of numbers; one that is left out is 0 in the generated code."""
    return np.array(found, dtype) if isinstance(found, np.ndarray) else np.zeros(0, dtype)


def with_one_subgraph(model: TfliteModel, signature: str) -> bytes:
    """A copy of a file that holds the subgraph of one signature alone, and no signatures.

    LiteRT's interpreter says what it does of the first subgraph only, and would prepare the others too.
    """
    copy = bytearray(model.data)
    root = schema_for("Reading a .tflite file").Model.GetRootAs(copy, 0)._tab
    first = root.Vector(root.Offset(_SUBGRAPHS))
    # An offset counts from where it stands.
    (offset,) = struct.unpack_from("<I", copy, entry := first + 4 * model.signatures[signature].subgraph)
    struct.pack_into("<II", copy, first - 4, 1, entry + offset - first)
    struct.pack_into("<I", copy, root.Vector(root.Offset(_SIGNATURES)) - 4, 0)
    return bytes(copy)
