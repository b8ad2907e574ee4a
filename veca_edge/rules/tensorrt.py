"""TensorRT's rules for an ONNX file, checked before anything slow runs.

Each rule is one small function over the graph; `RULES` names them all, says why each matters and
where it is written down. They hold for any ONNX file, ours or another tool's:

    for finding in lint_onnx("model.onnx", "10.3"):
        print(finding.rule, finding.node, finding.message)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from ..base.errors import EdgeError, MissingDependency
from ..base.files import inside, open_regular
from ..base.version_numbers import parse_version
from .finding import Finding

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

Version = tuple[int, int]
# Protobuf's own limit.
MAX_FILE_BYTES = (1 << 31) - 1
# Names of types in operator schemas where they are not the type's name in lower case.
ONNX_TYPES = {"FLOAT": "float", "DOUBLE": "double"}
OLDEST: Version = (8, 5)

# What each release reads, from the first release that reads it: the highest operator set (docs/operators.md of
# that release's onnx-tensorrt) and the IR version of the ONNX release it was built with (docs/Changelog.md).
OPSETS = {(8, 5): 17, (10, 0): 20, (10, 6): 22, (10, 15): 24, (11, 0): 25}
IR_VERSIONS = {(8, 5): 8, (9, 0): 9, (10, 0): 10, (10, 15): 12, (11, 0): 13}
OLDEST_OPSET = 9

# Operators that the release's docs/operators.md lists as unsupported.
NEVER = """
    Bernoulli BitShift Compress ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear MatMulInteger MaxRoiPool
    MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement
    QLinearConv QLinearMatMul SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength
    SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringNormalizer TfIdfVectorizer Unique
    AffineGrid BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im ImageDecoder RegexFullMatch StringConcat
    StringSplit"""
UNTIL_86 = "HardSwish IsInf LayerNormalization Mod OneHot"
UNTIL_9 = "Hardmax"
UNTIL_104 = "BlackmanWindow HammingWindow HannWindow"
UNTIL_105 = "STFT"
UNSUPPORTED = {
    release: frozenset(" ".join(lists).split())
    for release, lists in {
        (8, 5): (NEVER, UNTIL_105, UNTIL_104, UNTIL_9, UNTIL_86),
        (8, 6): (NEVER, UNTIL_105, UNTIL_104, UNTIL_9),
        (10, 0): (NEVER, UNTIL_105, UNTIL_104),
        (10, 4): (NEVER, UNTIL_105),
        (10, 5): (NEVER,),
    }.items()
}

WEIGHTED = ("MatMul", "Gemm", "Conv", "ConvTranspose")
# A scale per tensor commutes with these, so TensorRT moves Q/DQ through them to the layer behind.
MOVES_DATA = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity")
SAME_TYPES = ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Concat", "LayerNormalization", "PRelu", *WEIGHTED)
SMALLEST_INT8 = 16
SMALLEST_NORMAL_FP16 = float(np.finfo(np.float16).smallest_normal)

DOCS = "https://docs.nvidia.com/deeplearning/tensorrt"
PARSER_REPOSITORY = "https://github.com/onnx/onnx-tensorrt/blob"
EXPLICIT = (
    f"NVIDIA TensorRT, Explicit Quantization: {DOCS}/latest/inference-library/"
    "quantized-types-explicit-quantization.html"
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


def tensorrt_version(text: str) -> Version:
    """`10.3` or `10.3.0.30` as (10, 3). Raises `EdgeError` when it is not a version or older than 8.5."""
    try:
        release = parse_version(text).release
    except EdgeError:
        release = ()
    # Numbers alone: packages are versioned with more (v10.3, 10.3rc1, 1!10.3, 10.3+cuda), releases are not.
    if len(release) < 2 or max(release[:2]) > 999 or ".".join(map(str, release)) != text.strip():
        raise EdgeError(f"'{text[:60]}' is not a TensorRT version.", "Give it as major.minor, for example 10.3.")
    version = release[0], release[1]
    if version < OLDEST:
        raise EdgeError(
            f"TensorRT {text} is older than 8.5, the oldest release that veca-edge writes for.",
            "JetPack 5.1 brings TensorRT 8.5.",
        )
    return version


def known_for(table: dict, version: Version):
    """The entry of the newest release that is not newer than `version`."""
    return table[max(release for release in table if release <= version)]


# --------------------------------------------------------------------------------------- the graph


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


Broken = Iterator[tuple[str, str]]  # (node, message)


# --------------------------------------------------------------------------------- the whole file


def valid_nodes(subject: CheckedModel) -> Broken:
    import onnx

    yield from in_order(subject.model.graph)
    opset = min(subject.opset, onnx.defs.onnx_opset_version())
    for node in subject.nodes:
        if node.domain not in ("", "ai.onnx"):
            continue
        try:
            schema = onnx.defs.get_schema(node.op_type, max(opset, 0))
        except onnx.defs.SchemaError:
            yield name_of(node), f"operator set {subject.opset} has no {node.op_type}"
            continue
        yield from keeps_schema(node, schema, onnx.defs.get_schema(node.op_type))


def keeps_schema(node: ir.Node, schema: onnx.defs.OpSchema, newest: onnx.defs.OpSchema) -> Broken:
    """Types may be those of any operator set: the rules say better what a release makes of newer ones."""
    given = len(node.inputs)
    missing = given < schema.min_input or any(v is None for v in node.inputs[: schema.min_input])
    if missing or given > schema.max_input:
        yield name_of(node), f"{node.op_type} has {given} inputs and takes {schema.min_input} to {schema.max_input}"
        return
    if not schema.min_output <= len(node.outputs) <= schema.max_output:
        made = f"{schema.min_output} to {schema.max_output}"
        yield name_of(node), f"{node.op_type} has {len(node.outputs)} outputs and makes {made}"
    for i, value in enumerate(node.inputs):
        formal = schema.inputs[min(i, len(schema.inputs) - 1)]
        known_types = formal.types | newest.inputs[min(i, len(newest.inputs) - 1)].types
        kind = dtype(value)
        if kind and f"tensor({ONNX_TYPES.get(kind, kind.lower())})" not in known_types:
            yield name_of(node), f"{node.op_type} does not take {kind} as {formal.name}"
    for name, attribute in node.attributes.items():
        known = schema.attributes.get(name)
        if known is None or attribute.type.name != getattr(known.type, "name", ""):
            yield name_of(node), f"{node.op_type} has no attribute {name} of the type {attribute.type.name}"


def in_order(graph: ir.Graph) -> Broken:
    """Every value is made before it is used: there is no circle."""
    made: set[int] = set()
    todo: list[Iterator[ir.Node]] = [iter(graph)]
    while todo:
        node = next(todo[-1], None)
        if node is None:
            todo.pop()
            continue
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if value is not None and producer is not None and id(producer) not in made:
                yield name_of(node), f"'{value.name}' is used before it is made"
        made.add(id(node))
        for attribute in node.attributes.values():
            if attribute.type.name in ("GRAPH", "GRAPHS") and not attribute.is_ref():
                todo += map(iter, [attribute.value] if attribute.type.name == "GRAPH" else attribute.value)


def opset(subject: CheckedModel) -> Broken:
    highest = known_for(OPSETS, subject.version)
    if not OLDEST_OPSET <= subject.opset <= highest:
        yield "", f"the file uses operator set {subject.opset}; this release reads {OLDEST_OPSET} to {highest}"


def ir_version(subject: CheckedModel) -> Broken:
    highest = known_for(IR_VERSIONS, subject.version)
    if subject.model.ir_version > highest:
        yield (
            "",
            (
                f"the file has IR version {subject.model.ir_version}; "
                f"the ONNX that this release was built with ends at {highest}"
            ),
        )


def operators(subject: CheckedModel) -> Broken:
    unsupported = known_for(UNSUPPORTED, subject.version)
    for node in subject.of_type(*unsupported):
        yield name_of(node), f"{node.op_type} is listed as unsupported"


def custom_domain(subject: CheckedModel) -> Broken:
    functions = {(domain, name) for domain, name, _ in subject.model.functions}
    for node in subject.nodes:
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in functions:
            yield name_of(node), f"{node.domain}.{node.op_type} is not a standard ONNX operator"


def static_shapes(subject: CheckedModel) -> Broken:
    for value in () if subject.allow_dynamic else subject.model.graph.inputs:
        dims = None if value.shape is None else [d if isinstance(d, int) else str(d) for d in value.shape]
        if dims is None or not all(isinstance(d, int) and d > 0 for d in dims):
            yield value.name or "", f"the input '{value.name}' has shape {dims}"


# -------------------------------------------------------------------------------------- quantization


def signed_int8(subject: CheckedModel) -> Broken:
    for node in subject.of_type("QuantizeLinear", "DequantizeLinear"):
        zero = node.inputs[2] if len(node.inputs) > 2 else None
        if zero is not None:
            kind = dtype(zero)
        elif node.op_type == "DequantizeLinear":
            kind = dtype(node.inputs[0])
        else:
            kind = {2: "UINT8", 3: "INT8"}.get(node.attributes.get_int("output_dtype", 2), "another type")
        if kind not in ("INT8", ""):
            yield name_of(node), f"{node.op_type} works in {kind}"


def zero_points_zero(subject: CheckedModel) -> Broken:
    for node in subject.of_type("QuantizeLinear", "DequantizeLinear"):
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if zero is not None and np.any(zero):
            yield name_of(node), f"the zero point is {zero.reshape(-1)[np.argmax(zero.reshape(-1) != 0)]}"


def zero_points_given(subject: CheckedModel) -> Broken:
    if subject.version >= (9, 0):
        return
    for node in subject.of_type("QuantizeLinear", "DequantizeLinear"):
        zero, scale = constant(node.inputs[2]) if len(node.inputs) > 2 else None, constant(node.inputs[1])
        if zero is None:
            yield name_of(node), f"{node.op_type} has no constant zero point"
        elif scale is not None and zero.size != scale.size:
            yield name_of(node), f"{scale.size} scales and {zero.size} zero points"


def constant_scales(subject: CheckedModel) -> Broken:
    for node in subject.of_type("QuantizeLinear", "DequantizeLinear"):
        scale = constant(node.inputs[1])
        if scale is None:
            yield name_of(node), "the scale is computed, not a constant"
        elif not np.all(np.isfinite(scale) & (scale > 0)):
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
    for node in subject.of_type("DequantizeLinear"):
        if constant(node.inputs[0]) is not None:
            yield name_of(node), "the weight is stored as INT8 and dequantized"


def activations_of_linears_only(subject: CheckedModel) -> Broken:
    inputs = {(id(node), node.inputs.index(x)) for node, x, _ in subject.linears}
    for node in subject.quantizers:
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
        left, right = (is_a(back(value), "DequantizeLinear") for value in (x, weight))
        if left != right:
            yield name_of(node), f"only the {'activation' if left else 'weight'} of this {node.op_type} is quantized"


def back(value: ir.Value) -> ir.Node | None:
    """What made a value, seen through moved data and casts."""
    return producer_of(back_through(value, *MOVES_DATA, "Cast"))


def producer_of(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def weights_per_channel(subject: CheckedModel) -> Broken:
    for node, _, weight in subject.linears:
        flipped = is_a(weight.producer(), "Transpose")
        dequantizer = producer_of(back_through(weight, "Transpose"))
        if not is_a(dequantizer, "DequantizeLinear"):
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
    for node in subject.quantizers:
        scale = constant(node.inputs[1])
        if scale is not None and scale.size != 1:
            yield name_of(node), f"{scale.size} scales on an activation"


def large_enough(subject: CheckedModel) -> Broken:
    for node, x, weight in subject.linears:
        array = constant_source(weight)
        if not is_a(back(x), "DequantizeLinear") or array is None or array.ndim < 2:
            continue
        channels = (array.shape[0], array.shape[1]) if node.op_type.startswith("Conv") else array.shape[-2:]
        if min(channels) < SMALLEST_INT8:
            yield name_of(node), f"a quantized {node.op_type} with {channels[0]} and {channels[1]} channels"


def smoothing_folded(subject: CheckedModel) -> Broken:
    for node in subject.quantizers:
        before = producer_of(node.inputs[0])
        if is_a(before, "Mul", "Div"):
            arrays = [a for a in map(constant, before.inputs) if a is not None]
            if any(a.size > 1 and a.size == a.shape[-1] for a in arrays):
                yield name_of(before), f"a {before.op_type} by a constant vector in front of '{name_of(node)}'"


# -------------------------------------------------------------------------------------------- types


def no_wide_types(subject: CheckedModel) -> Broken:
    shape_like: dict[int, bool] = {}
    for node in subject.nodes:
        for value in node.outputs:
            if dtype(value) == "DOUBLE" and constant(value) is None:
                yield name_of(node), f"{node.op_type} computes in DOUBLE"
            elif dtype(value) == "INT64" and constant(value) is None and not is_shape(value, shape_like):
                if is_a(node, "ArgMax", "TopK") and all(to_narrower(use.node) for use in value.uses()):
                    continue  # TensorRT's own TopK gives INT32
                yield name_of(node), f"{node.op_type} computes in INT64"
    for value in (*subject.model.graph.inputs, *subject.model.graph.outputs):
        if dtype(value) in ("DOUBLE", "INT64"):
            yield value.name or "", f"'{value.name}' is {dtype(value)}"


def to_narrower(node: ir.Node) -> bool:
    """Whether a node casts to something other than 64 bits."""
    return is_a(node, "Cast") and dtype(node.outputs[0]) not in ("INT64", "DOUBLE")


def is_shape(value: ir.Value, known: dict[int, bool]) -> bool:
    """Whether a value depends on shapes and constants only."""
    todo = [value]
    while todo:
        current = todo[-1]
        node = current.producer()
        if id(current) in known:
            todo.pop()
        elif node is None or is_a(node, "Constant", "Shape", "Size"):
            known[id(current)] = node is not None or current.const_value is not None
        else:
            inputs = [v for v in node.inputs if v is not None]
            missing = [v for v in inputs if id(v) not in known]
            todo += missing
            if not missing:
                known[id(current)] = all(known[id(v)] for v in inputs)
    return known[id(value)]


def uint8_at_the_edge(subject: CheckedModel) -> Broken:
    for value in subject.model.graph.inputs:
        for node, _ in value.uses() if dtype(value) == "UINT8" else ():
            if not is_a(node, "Cast") or node.attributes.get_int("to", 0) not in (1, 10):
                yield name_of(node), f"{node.op_type} reads the UINT8 input '{value.name}'"
    for node in subject.nodes:
        for value in node.outputs if node.op_type not in ("QuantizeLinear", "Constant") else ():
            if dtype(value) == "UINT8" and not value.is_graph_output():
                yield name_of(node), f"{node.op_type} makes a UINT8 tensor inside the graph"


def types_agree(subject: CheckedModel) -> Broken:
    for node in subject.of_type(*SAME_TYPES):
        kinds = {dtype(value) for value in node.inputs} - {""}
        if len(kinds) > 1:
            yield name_of(node), f"{node.op_type} mixes {' and '.join(sorted(kinds))}"
    for node in subject.quantizers if subject.opset >= 19 else ():
        kinds = {dtype(value) for value in node.inputs[:2]} - {""}
        if len(kinds) > 1:
            yield name_of(node), f"the activation and its scale mix {' and '.join(sorted(kinds))}"


def casts_needed(subject: CheckedModel) -> Broken:
    seen: dict[tuple[int, int], str] = {}
    for node in subject.of_type("Cast"):
        source, to = node.inputs[0], node.attributes.get_int("to", 0)
        before = producer_of(source)
        if dtype(source) and dtype(source) == dtype(node.outputs[0]):
            yield name_of(node), f"a Cast of {dtype(source)} to itself"
        elif is_a(before, "Cast") and dtype(before.inputs[0]) == dtype(node.outputs[0]) != "":
            yield name_of(node), f"a Cast back to {dtype(node.outputs[0])} with no work between"
        first = seen.setdefault((id(source), to), name_of(node))
        if source is not None and first != name_of(node):
            yield name_of(node), f"'{source.name}' is already cast by '{first}'"


def finite_constants(subject: CheckedModel) -> Broken:
    for value in subject.model.graph.initializers.values():
        if dtype(value) in ("FLOAT", "FLOAT16", "DOUBLE"):
            array = constant(value)
            if array is not None and not np.isfinite(array).all():
                yield value.name or "", f"the constant '{value.name}' holds an infinity or a NaN"


# ---------------------------------------------------------------------------------------- operators


def layer_norm_whole(subject: CheckedModel) -> Broken:
    if subject.version < (8, 6):
        return
    for node in subject.of_type("Sqrt"):
        added = producer_of(node.inputs[0])
        if is_a(added, "Add") and any(is_a(v.producer(), "ReduceMean") for v in added.inputs if v is not None):
            yield name_of(node), "a normalisation written out as ReduceMean, Add, Sqrt"


def layer_norm_in_fp32(subject: CheckedModel) -> Broken:
    for node in subject.of_type("LayerNormalization"):
        if node.attributes.get_int("stash_type", 1) != 1:
            yield name_of(node), f"stash_type is {node.attributes.get_int('stash_type', 1)}, not float32"
        if len(node.outputs) > 1 and any(out.uses() for out in node.outputs[1:]):
            yield name_of(node), "its mean or deviation is read; only the first output is supported"


def constant_axes(subject: CheckedModel) -> Broken:
    reductions = {n.op_type for n in subject.nodes if n.op_type.startswith("Reduce")}
    positions = {**dict.fromkeys((*reductions, "Squeeze", "Unsqueeze"), 1)}
    if subject.version < (10, 3):
        positions["Slice"] = 3
    for node in subject.of_type(*positions):
        at = positions[node.op_type]
        if len(node.inputs) > at and node.inputs[at] is not None and constant(node.inputs[at]) is None:
            yield name_of(node), f"the axes of {node.op_type} are computed"


# ---------------------------------------------------------------------------------------- the rules


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
        "TensorRT quantizes to signed INT8 only: it refuses the node, or computes other values than the file says.",
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


def lint_onnx(
    model: str | Path | onnx.ModelProto | ir.Model, version: str, allow_dynamic: bool = False
) -> list[Finding]:
    """Checks an ONNX file against the rules of one TensorRT release; an empty list is a clean file.

    Args:
        model: a path, or a model in memory. It is not changed.
        version: the TensorRT release, `10.3`.
        allow_dynamic: accept inputs of dynamic length (elastic files with optimization profiles).

    Raises:
        EdgeError: the file cannot be read as ONNX, or `version` is not a version of 8.5 or newer.
    """
    subject = CheckedModel(read_onnx(model), tensorrt_version(version), allow_dynamic)
    # The rules take nodes that have their inputs for granted.
    rules = (VALID,) if any(VALID.check(subject)) else RULES
    return [
        Finding(rule.name, node, message, rule.why, rule.source)
        for rule in rules
        for node, message in rule.check(subject)
    ]


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
        raise EdgeError(f"There is no file '{path}'.", "Give the path of an .onnx file.")
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
