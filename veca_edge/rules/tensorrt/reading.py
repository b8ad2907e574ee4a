"""Reads an ONNX file that may be damaged, with its types inferred."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...base.errors import EdgeError, MissingDependency
from ...base.files import inside, open_regular

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

# Protobuf's own limit.
MAX_FILE_BYTES = (1 << 31) - 1


def read_onnx(model: str | Path | onnx.ModelProto | ir.Model) -> ir.Model:
    """The model with types inferred as far as they can be."""
    try:
        import onnx_ir as ir
        from onnx_ir.passes.common import ShapeInferencePass
    except ImportError:
        raise MissingDependency("onnx_ir", "export", "Checking an ONNX file") from None

    if isinstance(model, ir.Model):
        model = model.clone()
    elif isinstance(model, (str, Path)):
        model = read_file(Path(model))
    else:
        model = ir.from_proto(model)
    return ShapeInferencePass()(model).model


def read_file(path: Path) -> ir.Model:
    import onnx_ir as ir

    hint = "Give an .onnx file, with its weight files beside it."
    if not path.is_file():
        what = f"'{path}' is a directory, not an ONNX file." if path.is_dir() else f"There is no file '{path}'."
        raise EdgeError(what, "Give the path of an .onnx file.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise EdgeError(f"'{path}' is larger than any ONNX file can be (2 GiB).", hint)
    try:
        model = ir.load(path)
        complete = bool(len(model.graph.outputs))
        if not all(isinstance(name, (str, type(None))) for name in names(model)):
            raise ValueError("a name is not valid UTF-8")
        # Arrays are read when a rule asks for them: find out now whether they are there, and what they say.
        for tensor in tensors(model):
            if isinstance(tensor, ir.ExternalTensor):
                with open_regular(inside(path.parent, str(tensor.location))):
                    pass
            elif isinstance(tensor, ir.TensorProtoTensor) and tensor.size and not holds_values(tensor.raw):
                raise ValueError(f"'{tensor.name}' has the shape {tensor.shape}, but no values")
            if tuple(tensor.numpy().shape) != tuple(tensor.shape):
                raise ValueError(f"'{tensor.name}' does not have the shape {tensor.shape}")
    except Exception as error:  # a damaged file makes the reader fail in every way there is
        why = error.message if isinstance(error, EdgeError) else error
        raise EdgeError(f"'{path}' cannot be read as an ONNX model: {why}", hint) from error
    if not complete:
        raise EdgeError(f"'{path}' cannot be read as an ONNX model: it holds no graph.", "Give an .onnx file.")
    return model


def names(model: ir.Model) -> Iterator[object]:
    """What nodes, values and attributes are called: bytes where it is not UTF-8, by the ways of protobuf."""
    for graph in model.graphs():
        yield from (value.name for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()))
        for node in graph:
            yield from (node.name, node.op_type, node.domain, *node.attributes)
            yield from (value.name for value in (*node.inputs, *node.outputs) if value is not None)


def holds_values(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor has any: onnx_ir makes zeros of one that has none, as many as it claims."""
    fields = ("int32_data", "int64_data", "uint64_data", "float_data", "double_data", "string_data")
    return tensor.HasField("raw_data") or any(len(getattr(tensor, field)) for field in fields)


def tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every array that is written in a file: initializers and attributes, those of inner graphs and functions too."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type.name in ("TENSOR", "TENSORS") and not attribute.is_ref():
                    yield from [attribute.value] if attribute.type.name == "TENSOR" else attribute.value
