"""Rules on types, and on single operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .graph import WEIGHTED, Broken, CheckedModel, constant, dtype, is_a, name_of, producer_of

if TYPE_CHECKING:
    import onnx_ir as ir

SAME_TYPES = ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Concat", "LayerNormalization", "PRelu", *WEIGHTED)

_FLOATS = frozenset(("FLOAT", "DOUBLE"))
_SMALL_FLOATS = frozenset(("FLOAT16", "BFLOAT16"))
_FROM_16_BITS = frozenset(("INT32", "INT64", *_FLOATS))
_FROM_8_BITS = frozenset(("INT16", *_FROM_16_BITS, *_SMALL_FLOATS))
_UNSIGNED = frozenset(("UINT32", "UINT64"))
# The types that hold every value of a type: a Cast to one of them and back is exact, any other may round on purpose.
HELD_BY = {
    "BOOL": frozenset(("INT8", "UINT8", "UINT16", *_FROM_8_BITS, *_UNSIGNED)),
    "INT8": _FROM_8_BITS,
    "UINT8": frozenset(("UINT16", *_FROM_8_BITS, *_UNSIGNED)),
    "INT16": _FROM_16_BITS,
    "UINT16": _FROM_16_BITS | _UNSIGNED,
    "INT32": frozenset(("INT64", "DOUBLE")),
    "UINT32": frozenset(("INT64", "UINT64", "DOUBLE")),
    "FLOAT16": _FLOATS,
    "BFLOAT16": _FLOATS,
    "FLOAT": frozenset(("DOUBLE",)),
}


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
        elif is_a(before, "Cast"):
            outer = dtype(before.inputs[0])
            if outer == dtype(node.outputs[0]) and dtype(source) in HELD_BY.get(outer, ()):
                yield name_of(node), f"a Cast of {outer} to {dtype(source)} and back, with no work between"
        first = seen.setdefault((id(source), to), name_of(node))
        if source is not None and first != name_of(node):
            yield name_of(node), f"'{source.name}' is already cast by '{first}'"


def finite_constants(subject: CheckedModel) -> Broken:
    for value in subject.model.graph.initializers.values():
        if dtype(value) in ("FLOAT", "FLOAT16", "DOUBLE"):
            array = constant(value)
            if array is not None and not np.isfinite(array).all():
                yield value.name or "", f"the constant '{value.name}' holds an infinity or a NaN"


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
