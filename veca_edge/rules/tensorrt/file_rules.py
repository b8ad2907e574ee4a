"""Rules on the whole file: that it is ONNX, and of a kind that the release reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .graph import Broken, CheckedModel, dtype, name_of
from .releases import IR_VERSIONS, OLDEST_OPSET, OPSETS, UNSUPPORTED, known_for

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

# Names of types in operator schemas where they are not the type's name in lower case.
ONNX_TYPES = {"FLOAT": "float", "DOUBLE": "double"}


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
