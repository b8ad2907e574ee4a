"""Reads saved Core ML packages: programs, types and weights, exactly as they lie on disk.

The executor, the linter and the converter's own check read a package through this module, never
through the objects that wrote it. Only the message classes of coremltools are used; the weights file
is read here. Formats: Model.proto and MIL.proto of coremltools; the weights file is storage version 2
(a 64 byte header, then for each array a 64 byte record that points at its bytes).

A package comes from anywhere: no file outside of it is opened, and what is read holds together. Every constant has the
bytes of its type, every operation its types, and every name is made before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import EdgeError
from ..base.files import inside, open_regular, read_limited
from ..base.json_files import read_json
from .coremltools_library import messages_for

NUMPY_TYPES = {
    "BOOL": np.bool_,
    "FLOAT16": np.float16,
    "FLOAT32": np.float32,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
}
# What immediate (not in the weights file) arrays of these types are stored as.
IN_BYTES = {"FLOAT16", "INT8", "INT16", "UINT8", "UINT16", "UINT32"}
RECORD_BYTES = 64
RECORD_SENTINEL = 0xDEADBEEF
MAX_SPECIFICATION_BYTES = 256 << 20
PURPOSE = "Reading a Core ML package"
MANIFEST = "Manifest.json"  # of a package: what is in it
DAMAGED_HINT = "The package is damaged: copy or export it again."


@dataclass(frozen=True)
class Constant:
    """A value written in the program.

    Attributes:
        value: an array, or a string, or a list of strings.
        dtype: MIL's name of the type, such as `FLOAT16`.
        offset: where it lies in the weights file, or None when it is written in the program itself.
    """

    value: Any
    dtype: str
    offset: int | None = None


@dataclass(frozen=True)
class TensorType:
    """`dtype` is MIL's name; `shape` is empty for a scalar. Other kinds of values have a dtype in lower case."""

    dtype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One operation: inputs are names of earlier results or constants, by parameter; outputs are typed names. One
    without a name is called after its first output."""

    type: str
    name: str
    inputs: Mapping[str, tuple[str | Constant, ...]]
    outputs: Mapping[str, TensorType]


@dataclass(frozen=True)
class Feature:
    """An input or output as an app sees it.

    Attributes:
        kind: `image`, `array`, `string` or `dictionary`.
        dtype: colour layout of an image, element type of an array.
        shape: `(H, W)` of an image.
    """

    name: str
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Function:
    """One entry of a package.

    Attributes:
        operations: in order of execution.
        results: names of the values it returns.
        opset: such as `CoreML8`.
    """

    name: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    operations: tuple[Operation, ...] = field(repr=False)
    results: tuple[str, ...]
    opset: str

    @property
    def constants(self) -> dict[str, Constant]:
        """Constants with a name of their own."""
        values = ((name, op.inputs["val"][0]) for op in self.operations if op.type == "const" for name in op.outputs)
        return {name: value for name, value in values if isinstance(value, Constant)}


@dataclass(frozen=True)
class MlPackage:
    """A saved ML Program.

    Attributes:
        functions: by name; a package with one function calls it `main`.
        default_function: what an app gets that names none.
        specification_version: 8 for iOS 17, 9 for iOS 18, 10 for iOS 26.
        metadata: description, version, author, license and the user-defined strings.
    """

    path: Path
    functions: Mapping[str, Function]
    default_function: str
    specification_version: int
    metadata: Mapping[str, str]


def read_mlpackage(path: str | Path) -> MlPackage:
    """Reads a package; arrays are read-only views of the mapped weights file.

    Raises:
        EdgeError: it is not a package, not an ML Program, or is damaged.
    """
    path = Path(path)
    try:
        return _read(path)
    except _Damaged as error:
        raise EdgeError(f"{path}: {error}.", DAMAGED_HINT) from error


class _Damaged(Exception):
    """What is wrong in a program; whoever knows the file's name says where."""


def _read(path: Path) -> MlPackage:
    model = read_specification(path)
    program = model.mlProgram
    weights = _Weights(specification_path(path).parent)
    described = {f.name: f for f in model.description.functions}
    functions = {}
    # A map of the message has no order; the description has.
    for name in [n for n in described if n in program.functions] or sorted(program.functions):
        function = program.functions[name]
        opset = function.opset
        if opset not in function.block_specializations:
            raise EdgeError(
                f"{path}: the function '{name}' has no operations for its operator set '{opset}'.", DAMAGED_HINT
            )
        block = function.block_specializations[opset]
        description = described.get(name, model.description)
        functions[name] = Function(
            name,
            tuple(map(_feature, description.input)),
            tuple(map(_feature, description.output)),
            tuple(_operation(op, weights) for op in block.operations),
            tuple(block.outputs),
            opset,
        )
        _check_names(functions[name], [given.name for given in function.inputs])
    default = model.description.defaultFunctionName or "main"
    if default not in functions:
        raise EdgeError(f"{path}: the default function '{default}' is not in the package.", DAMAGED_HINT)
    written = model.description.metadata
    metadata = {
        "description": written.shortDescription,
        "version": written.versionString,
        "author": written.author,
        "license": written.license,
        **written.userDefined,
    }
    return MlPackage(path, functions, default, model.specificationVersion, metadata)


def _check_names(function: Function, given: list[str]) -> None:
    """Every name is made once, and before it is used; what an app sees is what the program takes and returns."""
    known = set(given)
    for op in function.operations:
        for parameter, bound in op.inputs.items():
            for name in bound:
                if isinstance(name, str) and name not in known:
                    raise _Damaged(
                        f"in the function '{function.name}', the operation '{op.name}' ({op.type}) takes '{name}' as "
                        f"{parameter}, which no operation before it makes"
                    )
        for name in op.outputs:
            if name in known:
                raise _Damaged(f"in the function '{function.name}', '{name}' is made twice")
            known.add(name)
    seen = {feature.name for feature in function.inputs}
    for name in (*sorted(seen - set(given)), *function.results, *(feature.name for feature in function.outputs)):
        if name not in known:
            raise _Damaged(f"in the function '{function.name}', nothing is called '{name}'")


def read_specification(path: str | Path) -> Any:
    """The `Model` message of a package. Raises `EdgeError` when it is not an ML Program or can't be parsed."""
    messages = messages_for(PURPOSE)
    from google.protobuf.message import DecodeError

    path = Path(path)
    model: Any = messages.Model_pb2.Model()
    try:
        model.ParseFromString(read_limited(specification_path(path), MAX_SPECIFICATION_BYTES))
    except (DecodeError, OSError) as error:
        raise EdgeError(f"{path}: its model specification can't be read: {error}", DAMAGED_HINT) from error
    kind = model.WhichOneof("Type")
    if kind != "mlProgram":
        raise EdgeError(
            f"{path} is not an ML Program but a Core ML model of type '{kind}'.",
            "Only ML Programs (.mlpackage, iOS 15 and later) are understood.",
        )
    return model


def specification_path(path: Path) -> Path:
    """Where a package keeps its model specification. Raises `EdgeError` where that is not inside of it."""
    if not path.is_dir():
        what = "is a file, not a package directory" if path.exists() else "does not exist"
        raise EdgeError(f"{path} {what}.", "Give a .mlpackage directory.")
    manifest = inside(path, MANIFEST, DAMAGED_HINT)
    if not manifest.exists():
        raise EdgeError(f"{path} is not a Core ML package: it has no Manifest.json.", "Give a .mlpackage directory.")
    content = read_json(manifest, DAMAGED_HINT)
    try:
        item = content["itemInfoEntries"][content["rootModelIdentifier"]]["path"]
    except (KeyError, TypeError) as error:
        raise EdgeError(f"{path}: its Manifest.json does not name a model.", DAMAGED_HINT) from error
    inside(path / "Data", item, DAMAGED_HINT)
    return inside(path, f"Data/{item}", DAMAGED_HINT)


class _Weights:
    """The weights files of a package, mapped when first asked for."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.files: dict[str, np.ndarray] = {}

    def array(self, file_name: str, offset: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        path = inside(self.directory, file_name.removeprefix("@model_path/"), DAMAGED_HINT)
        data = self._file(path)

        def fail(what: str) -> EdgeError:
            return EdgeError(f"{path}: the array at byte {offset} {what}.", DAMAGED_HINT)

        if dtype not in NUMPY_TYPES:
            raise EdgeError(f"{path}: arrays of type {dtype} are not understood.", f"Known: {', '.join(NUMPY_TYPES)}.")
        if offset % RECORD_BYTES or offset + RECORD_BYTES > len(data):
            raise fail("lies outside of the file")
        sentinel = int(data[offset : offset + 4].view("<u4")[0])
        if sentinel != RECORD_SENTINEL:
            raise fail("has no valid record")
        size, start = (int(n) for n in data[offset + 8 : offset + 24].view("<u8"))
        if start + size > len(data):
            raise fail("is cut off")
        numpy_type = np.dtype(NUMPY_TYPES[dtype])
        if size != numpy_type.itemsize * math.prod(shape):
            raise fail(f"has {size} bytes, but {dtype} {list(shape)} was promised")
        return data[start : start + size].view(numpy_type).reshape(shape)

    def _file(self, path: Path) -> np.ndarray:
        key = str(path)
        if key not in self.files:
            try:
                with open_regular(path) as file:
                    data = np.memmap(file, np.uint8, "r")
            except (OSError, ValueError) as error:
                raise EdgeError(f"The weights file {path} can't be read: {error}", DAMAGED_HINT) from error
            version = int(data[4:8].view("<u4")[0]) if len(data) >= RECORD_BYTES else None
            if version != 2:
                raise EdgeError(f"{path} is not a weights file of storage version 2.", DAMAGED_HINT)
            self.files[key] = data
        return self.files[key]


def _data_type(number: int) -> str:
    return _enum_name(messages_for(PURPOSE).MIL_pb2.DataType, number)


def _enum_name(enum: Any, number: int) -> str:
    try:
        return enum.Name(number)
    except ValueError:
        raise _Damaged(f"there is no type with the number {number}") from None


def _shape(tensor_type: Any) -> tuple[int, ...]:
    return tuple(int(d.constant.size) for d in tensor_type.dimensions)


def _type(value_type: Any) -> TensorType:
    kind = value_type.WhichOneof("type")
    if kind is None:
        raise _Damaged("a value has no type")
    if kind != "tensorType":
        return TensorType(kind.removesuffix("Type"))
    return TensorType(_data_type(value_type.tensorType.dataType), _shape(value_type.tensorType))


def _constant(value: Any, weights: _Weights) -> Constant:
    kind = value.type.WhichOneof("type")
    if kind == "listType":
        items = value.immediateValue.list.values
        return Constant([_constant(item, weights).value for item in items], "list")
    if kind != "tensorType":
        raise _Damaged(f"a constant of the kind '{kind}' is not understood; known are tensors and lists")
    dtype, shape = _data_type(value.type.tensorType.dataType), _shape(value.type.tensorType)
    if value.WhichOneof("value") == "blobFileValue":
        blob = value.blobFileValue
        return Constant(weights.array(blob.fileName, blob.offset, dtype, shape), dtype, blob.offset)
    tensor = value.immediateValue.tensor
    form = tensor.WhichOneof("value")
    if form is None:
        raise _Damaged(f"a constant {dtype} {list(shape)} has no value")
    stored = getattr(tensor, form).values
    if dtype == "STRING":
        if form != "strings" or len(stored) != math.prod(shape):
            raise _Damaged(f"a constant STRING {list(shape)} holds {len(stored)} values as '{form}'")
        return Constant(str(stored[0]) if not shape else list(stored), dtype)
    if dtype not in NUMPY_TYPES:
        raise _Damaged(f"a constant of type {dtype} is not understood; known are {', '.join(NUMPY_TYPES)}")
    numpy_type = np.dtype(NUMPY_TYPES[dtype])
    count = math.prod(shape)
    if (form == "bytes") != (dtype in IN_BYTES) or form == "strings":
        raise _Damaged(f"a constant {dtype} {list(shape)} is stored as '{form}'")
    if len(stored) != count * (numpy_type.itemsize if form == "bytes" else 1):
        raise _Damaged(f"a constant {dtype} {list(shape)} does not hold the values that its type promises")
    try:
        array = np.frombuffer(stored, numpy_type) if form == "bytes" else np.array(stored, numpy_type)
        return Constant(array.reshape(shape), dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise _Damaged(f"a constant {dtype} {list(shape)} can't be read: {error}") from error


def _operation(op: Any, weights: _Weights) -> Operation:
    def bound(argument: Any) -> tuple[str | Constant, ...]:
        return tuple(
            b.name if b.WhichOneof("binding") == "name" else _constant(b.value, weights) for b in argument.arguments
        )

    outputs = {o.name: _type(o.type) for o in op.outputs}
    written = op.attributes["name"].immediateValue.tensor.strings.values if "name" in op.attributes else ()
    name = written[0] if written else next(iter(outputs), "")
    try:
        inputs = {name: bound(argument) for name, argument in op.inputs.items()}
        inputs.update({name: (_constant(value, weights),) for name, value in op.attributes.items() if name != "name"})
    except _Damaged as error:
        raise _Damaged(f"in the operation '{name}' ({op.type}), {error}") from error
    if len(outputs) != len(op.outputs):
        raise _Damaged(f"the operation '{name}' ({op.type}) has two outputs of one name")
    if op.type == "const" and (
        len(outputs) != 1 or not (len(inputs.get("val", ())) == 1 and isinstance(inputs["val"][0], Constant))
    ):
        raise _Damaged(f"the constant '{name}' has no value")
    if empty := [parameter for parameter, given in inputs.items() if not given]:
        raise _Damaged(f"the operation '{name}' ({op.type}) has nothing as {empty[0]}")
    return Operation(op.type, name, inputs, outputs)


def _feature(feature: Any) -> Feature:
    kind = feature.type.WhichOneof("Type")
    if kind is None:
        raise _Damaged(f"the input or output '{feature.name}' has no type")
    if kind == "imageType":
        image = feature.type.imageType
        colours = _enum_name(image.ColorSpace, image.colorSpace)
        return Feature(feature.name, "image", colours, (image.height, image.width))
    if kind == "multiArrayType":
        array = feature.type.multiArrayType
        return Feature(feature.name, "array", _enum_name(array.ArrayDataType, array.dataType), tuple(array.shape))
    return Feature(feature.name, kind.removesuffix("Type"))
