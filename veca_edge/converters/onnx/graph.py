"""The one ONNX writer: VECA's graph, node by node, through a dialect.

`onnx_from_veca` walks the inference form once. What differs between runtimes (how a linear layer, a
rotation, an attention or a normalisation is spelled) is a method of the `Dialect` it is given. The
base dialect writes standard ONNX in float32; `converters.cpu` and `converters.tensorrt` override
what their runtimes run better.

Writing the graph instead of exporting it gives control over names, operator sets, types and
quantization, and about half the nodes of an exporter's output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from ...base.spec import GraphSpec
from ...model.folding import Block, InferenceWeights, Linear
from ...model.plan import BlockRows, block_rows, graph_constants, watched_block
from .dialect import Dialect
from .outputs import output_shape, output_type, write_outputs

# ------------------------------------------------------------------------------------- the graph


def onnx_from_veca(
    weights: InferenceWeights, spec: GraphSpec, dialect: type[Dialect], metadata: Mapping[str, str]
) -> ir.Model:
    """Writes one static graph.

    Args:
        weights: the folded weights; layers with a quantization are written as INT8 by dialects that know it.
        metadata: strings stored in the file's metadata.

    Returns:
        A model with input `image` and the outputs of `spec`, by name.

    Raises:
        EdgeError: impossible core count, image size or outputs.
    """
    d = dialect(weights, spec, graph_constants(weights, spec))
    g, config = d.g, weights.config
    image = graph_input(spec)
    with g.within("patch_embed"):
        patches = d.patch_embed(image)
        if weights.patch_norm is not None:
            patches = d.layer_norm(patches, *weights.patch_norm)
    x = g("Concat", d.array("cores", d.per_batch(d.constants.cores)), patches, axis=1, name="tokens")
    raw: ir.Value | None = None
    states: list[ir.Value] = []
    looks: ir.Value | None = None
    for i, (block, rows) in enumerate(zip(weights.blocks, block_rows(spec, config.layers, weights.heads), strict=True)):
        with g.within(f"blocks.{i}"):
            if block.position is None:
                q, k, v = first_queries(d, block, rows, patches)
            else:
                if raw is None:
                    raw = g.constant("core_coordinates", d.per_batch(d.constants.core_coordinates))
                raw = d.move_cores(raw, g.rows(x, 0, d.cores), block.position)
                q, k, v = later_queries(d, block, rows, x, raw)
            looks = core_looks(d, i, q, k) or looks
            x = finish_block(d, block, rows, x, q, k, v)
        states.append(x)
    return finished_model(d, [image], write_outputs(d, states, looks), metadata)


def core_looks(d: Dialect, i: int, q: ir.Value, k: ir.Value) -> ir.Value | None:
    """Where the core tokens look, `[B, N]`, if block `i` is the one whose attention is an output."""
    if "attention" not in d.spec.outputs or i != watched_block(d.config.layers):
        return None
    with d.g.within("looks"):
        return d.looks(d.g.rows(q, 0, d.cores, d.token_axis), k)


def graph_input(spec: GraphSpec) -> ir.Value:
    """The one input: uint8 `[B, H, W, 3]` of camera frames, else float32 `[B, 3, H, W]`."""
    height, width = spec.image_size
    if spec.input == "image":
        shape, dtype = [spec.batch, height, width, 3], ir.DataType.UINT8
    else:
        shape, dtype = [spec.batch, 3, height, width], ir.DataType.FLOAT
    return ir.Value(name="image", shape=ir.Shape(shape), type=ir.TensorType(dtype))


def qkv_layers(block: Block) -> tuple[Linear, Linear, Linear]:
    """The joined layer as three."""
    width, name = len(block.attn_gain), block.qkv.name.removesuffix("qkv")
    q, k, v = (block.qkv.rows(i * width, (i + 1) * width, name + "qkv"[i]) for i in range(3))
    return q, k, v


def first_queries(d: Dialect, block: Block, rows: BlockRows, patches: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """q, k, v of block 0, where the rows of the core tokens are constants."""
    width = d.config.hidden
    constants = [d.constants.core_qkv[:, i * width : (i + 1) * width] for i in range(3)]
    if not rows.all_queries:
        constants[0] = constants[0][: rows.core_queries]
    layers = dict(zip("qkv", qkv_layers(block), strict=True))
    wanted = [n for n in "qkv" if (rows.patch_queries if n == "q" else rows.patch_keys)]
    found = {}
    if wanted:
        y = d.layer_norm(patches, block.attn_gain)
        found = dict(zip(wanted, d.linears(y, d.patches, [layers[n] for n in wanted]), strict=True))
        cos = d.constant_table("patch_cos", d.constants.patch_cos)
        sin = d.constant_table("patch_sin", d.constants.patch_sin)
    made = []
    for name, constant in zip("qkv", constants, strict=True):
        parts = [d.constant_heads(f"core_{name}", constant)] if len(constant) else []
        if name in found:
            x = found[name]
            parts.append(d.values(x) if name == "v" else d.queries_or_keys(x, cos, sin))
        made.append(d.concat(parts, d.token_axis))
    return tuple(made)


def later_queries(
    d: Dialect, block: Block, rows: BlockRows, x: ir.Value, raw: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """q, k, v of a later block, where core tokens stand at coordinates that depend on the image."""
    g = d.g
    y = d.layer_norm(x, block.attn_gain)
    core_cos, core_sin = d.rotary_tables(raw)
    cos = d.concat([core_cos, d.constant_table("patch_cos", d.constants.patch_cos)], d.token_axis)
    sin = d.concat([core_sin, d.constant_table("patch_sin", d.constants.patch_sin)], d.token_axis)
    q_layer, k_layer, v_layer = qkv_layers(block)
    tokens = d.cores + d.patches
    if rows.all_queries:
        q, k, v = d.linears(y, tokens, [q_layer, k_layer, v_layer])
        return d.queries_or_keys(q, cos, sin), d.queries_or_keys(k, cos, sin), d.values(v)
    # The last block without one of the outputs: far fewer rows ask, or are looked at.
    asked_cos, asked_sin = (d.select(t, rows, d.token_axis) for t in (cos, sin))
    y_keys = y
    if not rows.patch_keys:
        y_keys, tokens, cos, sin = g.rows(y, 0, d.cores), d.cores, core_cos, core_sin
    (q,) = d.linears(d.select(y, rows), d.leaving(rows), [q_layer])
    k, v = d.linears(y_keys, tokens, [k_layer, v_layer])
    return d.queries_or_keys(q, asked_cos, asked_sin), d.queries_or_keys(k, cos, sin), d.values(v)


def finish_block(
    d: Dialect, block: Block, rows: BlockRows, x: ir.Value, q: ir.Value, k: ir.Value, v: ir.Value
) -> ir.Value:
    """Attention, its projection, and the feed-forward, on the rows that leave the block."""
    x = d.g("Add", d.select(x, rows), d.mixed(block, rows, q, k, v))
    fed = d.feed_forward(d.layer_norm(x, block.ffn_gain), d.leaving(rows), block)
    return d.g("Add", x, fed)


def finished_model(
    d: Dialect, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], metadata: Mapping[str, str]
) -> ir.Model:
    """The graph as a model: types and shapes inferred, unused constants removed, metadata set."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass, ShapeInferencePass

    for value in outputs:
        value.shape, value.type = output_shape(d, value.name or ""), ir.TensorType(output_type(d, value.name or ""))
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=d.g.tape.nodes,
        initializers=d.g.tape.initializers,
        opset_imports={"": d.opset, **d.domains},
        name=f"veca_cores{d.spec.core_count}",
    )
    model = ir.Model(graph, ir_version=d.ir_version, producer_name="veca-edge")
    for one in (RemoveUnusedNodesPass(), ClearMetadataAndDocStringPass(), ShapeInferencePass()):
        model = one(model).model
    drop_types(model.graph.initializers.values())  # the tensors have them; said twice they take a tenth of a file
    if not d.states_inferable_types:
        drop_types(v for node in model.graph for v in node.outputs if node.domain == "" and not v.is_graph_output())
    model.metadata_props.update(metadata)
    return model


def drop_types(values: Iterable[ir.Value]) -> None:
    """Leaves out shapes and types that a reader of the file knows anyway."""
    for value in values:
        value.shape = value.type = None
