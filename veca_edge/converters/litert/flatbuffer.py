"""The `.tflite` flatbuffer: what all subgraphs of a file share, and its bytes.

LiteRT's own generated schema packs the tables; what it would store for every subgraph anew is stored once here.
Bytes of constants are shared by content, and so are the quantization parameters of equal tensors (a flatbuffer is a
graph: two tensors may point at one table). Buffers lie at multiples of 16 bytes, as `schema.fbs` asks for and the
generated Python code forgets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...base.errors import EdgeError
from ...formats.tflite import schema_for

PURPOSE = "An export for the target android"
SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16
# A flatbuffer's offsets are 32 bits, signed; what is not a constant takes far less than the rest.
MAX_CONSTANT_BYTES = (1 << 31) - (64 << 20)


class TfliteBuilder:
    """One file while it is being written.

    Attributes:
        schema: LiteRT's generated schema.
    """

    def __init__(self) -> None:
        self.schema: Any = schema_for(PURPOSE)
        model = self.model = self.schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, b"veca-edge"
        # By convention the first buffer is empty: tensors without a value refer to it.
        model.buffers = [self.schema.BufferT()]
        model.subgraphs, model.operatorCodes, model.signatureDefs, model.metadata = [], [], [], []
        self._buffers: dict[bytes, int] = {}
        self._codes: dict[tuple[int, int], int] = {}
        self._quantizations: dict[bytes, Any] = {}
        self._constant_bytes = 0

    def buffer(self, content: bytes) -> int:
        """The index of the buffer with these bytes. Raises `EdgeError` where a file cannot hold them too."""
        key = hashlib.sha256(content).digest()
        if key not in self._buffers:
            self._constant_bytes += len(content)
            if self._constant_bytes > MAX_CONSTANT_BYTES:
                raise EdgeError(
                    "A .tflite file ends at 2 GiB, and the weights of this model take more.",
                    "Export --precision int8 or fp16 alone, or for another target.",
                )
            self._buffers[key] = len(self.model.buffers)
            self.model.buffers.append(_aligned_buffer(self.schema, content))
        return self._buffers[key]

    def code(self, operator: int, version: int) -> int:
        """The index of an operator's code in the file."""
        key = operator, version
        if key not in self._codes:
            code = self.schema.OperatorCodeT()
            # Operators up to 127 stand in the older field too, which older runtimes read.
            code.builtinCode, code.deprecatedBuiltinCode, code.version = operator, min(operator, 127), version
            self._codes[key] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self._codes[key]

    def quantization(self, scale: np.ndarray, zero_point: int = 0) -> Any:
        """Parameters with `scale` float32 `[n]` for the rows of a tensor, or `[1]` for the whole of it."""
        scale = np.ascontiguousarray(scale, np.float32)
        key = scale.tobytes() + bytes([zero_point])
        if key not in self._quantizations:
            made = _shared_quantization(self.schema)
            made.scale, made.zeroPoint = scale, np.full(len(scale), zero_point, np.int64)
            self._quantizations[key] = made
        return self._quantizations[key]

    def add_signature(self, key: str, subgraph: int, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        """Lets an app call a subgraph by name, with names for its tensors."""
        signature = self.schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key.encode(), subgraph
        signature.inputs, signature.outputs = self._named(inputs), self._named(outputs)
        self.model.signatureDefs.append(signature)

    def _named(self, tensors: dict[str, int]) -> list[Any]:
        maps = []
        for name, index in tensors.items():
            entry = self.schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), index
            maps.append(entry)
        return maps

    def add_metadata(self, name: str, content: bytes) -> None:
        """A named buffer that runtimes leave alone."""
        entry = self.schema.MetadataT()
        entry.name, entry.buffer = name.encode(), self.buffer(content)
        self.model.metadata.append(entry)

    def to_bytes(self) -> bytes:
        """The finished file."""
        import flatbuffers

        builder = flatbuffers.Builder(self._constant_bytes + (1 << 20))
        builder.Finish(self.model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())


def _aligned_buffer(schema: Any, content: bytes) -> Any:
    class AlignedBuffer(schema.BufferT):
        def Pack(self, builder: Any) -> int:
            builder.StartVector(1, len(content), BUFFER_ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            data = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, data)
            return schema.BufferEnd(builder)

    return AlignedBuffer()


def _shared_quantization(schema: Any) -> Any:
    class SharedQuantization(schema.QuantizationParametersT):
        packed: int = 0

        def Pack(self, builder: Any) -> int:
            self.packed = self.packed or super().Pack(builder)
            return self.packed

    return SharedQuantization()


def broadcast(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """The shape of an elementwise operator's result."""
    return list(np.broadcast_shapes(tuple(a), tuple(b)))
