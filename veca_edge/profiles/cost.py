"""What one image costs, before anything is measured: multiply-accumulates and attention interactions.

`cost_of_model` counts from the model's sizes; `cost_of_onnx` counts what a file really contains. Both
count the matrix products and convolutions (a softmax or a norm is not among them), for one image. `cost_facts` chooses
for a bundle's artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import EdgeError
from ..base.spec import GraphSpec
from ..base.tasks import Task, Tokens
from ..bundle.types import Artifact, Bundle
from ..model.config import ModelConfig
from ..model.heads import LinearHead, active_heads
from ..model.plan import block_rows

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """Per image.

    Attributes:
        macs: multiply-accumulates of all matrix products and convolutions; a FLOP count is twice that.
        attention_interactions: pairs of a query and a key, summed over the layers (each counts once, however
            many heads look at it).
    """

    macs: int
    attention_interactions: int


# ------------------------------------------------------------------------------- from the sizes


def cost_of_model(config: ModelConfig, spec: GraphSpec, heads: Sequence[LinearHead] = ()) -> Cost:
    """The cost of the inference form: constant core tokens in layer 0, and in the last layer only what is asked for.

    An output projection that keeps the width cannot be told from the sizes, and is not counted.

    Args:
        heads: those of the model, counted where the outputs need them.
    """
    rows, columns = config.grid(*spec.image_size)
    patches, cores, width, hidden = rows * columns, spec.core_count, config.hidden, config.mlp_hidden
    macs = patches * width * 3 * config.patch_size**2
    interactions = 0
    for i, asked in enumerate(block_rows(spec, config.layers, heads)):
        leaving = asked.core_queries + patches * asked.patch_queries
        keys = cores + patches * asked.patch_keys
        queries = cores + patches if asked.all_queries else leaving
        constant_queries, constant_keys = (queries - patches * asked.patch_queries, cores) if i == 0 else (0, 0)
        pairs = asked.core_queries * keys + patches * asked.patch_queries * cores
        macs += width * width * (queries - constant_queries)  # q
        macs += 2 * width * width * (keys - constant_keys)  # k, v
        macs += 2 * width * pairs  # scores and their sums of v
        macs += leaving * (width * width + 3 * width * hidden)  # out, fc1, fc2
        macs += 0 if i == 0 else cores * width * 2  # where the core tokens stand
        interactions += pairs
    if config.output_dim != width:
        macs += leaving * width * config.output_dim
    macs += sum(_head_macs(config, spec, head) for head in active_heads(heads, spec.outputs))
    return Cost(macs, interactions)


def _head_macs(config: ModelConfig, spec: GraphSpec, head: LinearHead) -> int:
    """The scores, and where they become a map the products that resize them."""
    grid, width = config.grid(*spec.image_size), config.output_dim
    patches, classes, macs = grid[0] * grid[1], head.classes, 0
    for term in head.terms:
        macs += width * classes * (patches if term.tokens == Tokens.PATCHES else 1)
        macs += width * patches if term.tokens == Tokens.MEAN else 0
    if head.task == Task.SEGMENT and "segmentation" in spec.outputs:
        macs += _resizing_macs(grid, spec.map_size, classes)
    if head.task == Task.DEPTH:
        finer = grid[0] * head.upsampling, grid[1] * head.upsampling
        macs += _resizing_macs(grid, finer, classes)
        macs += 2 * classes * finer[0] * finer[1] if classes > 1 else 0
        macs += _resizing_macs(finer, spec.map_size, 1)
    return macs


def _resizing_macs(source: tuple[int, int], target: tuple[int, int], channels: int) -> int:
    """One product for each side that changes, the rows first."""
    rows = target[0] * source[0] * source[1] * channels if source[0] != target[0] else 0
    return rows + (target[0] * target[1] * source[1] * channels if source[1] != target[1] else 0)


def attention_block_macs(width: int, patches: int, cores: int) -> int:
    """One whole core-periphery attention block: the q, k, v and out projections of all tokens, and attention.

    This is what the published FLOP counts of a block are twice of.
    """
    return 4 * width * width * (patches + cores) + 2 * width * attention_pairs(patches, cores)


def dense_attention_block_macs(width: int, tokens: int) -> int:
    """The same of a block in which every token looks at every token."""
    return 4 * width * width * tokens + 2 * width * tokens * tokens


def attention_pairs(patches: int, cores: int) -> int:
    """Pairs of query and key in one layer: cores look at everything, patches at the cores."""
    return cores * (cores + patches) + patches * cores


# ---------------------------------------------------------------------------------- from a file


def cost_of_onnx(path: Path) -> Cost:
    """Counts the products in an ONNX file with static shapes, for one image of its batch.

    Raises:
        EdgeError: a product's shape cannot be found, or an operator that computes products is unknown.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    shapes = {name: shape for name, shape in tensor_shapes(model).items() if shape is not None}
    macs = interactions = 0
    for node in model.graph.node:
        count = _PRODUCTS.get(node.op_type)
        if count is None and node.op_type not in _SOFTMAX:
            if node.op_type in _UNKNOWN_PRODUCTS:
                raise EdgeError(
                    f"{path}: the cost of '{node.name}' ({node.op_type}) is unknown.", "Is it a file that export wrote?"
                )
            continue
        unknown = [name for name in (*node.input[:3], node.output[0]) if name and name not in shapes]
        if count is not None and unknown:
            raise EdgeError(
                f"{path}: the shape of '{unknown[0]}' at '{node.name}' ({node.op_type}) is not static.",
                "The cost can only be counted in a graph with static shapes.",
            )
        inputs = [shapes.get(name, ()) for name in node.input]
        if count is not None:
            macs += count(inputs, shapes[node.output[0]])
        interactions += _pairs(node.op_type, inputs)
    batch = shapes[model.graph.input[0].name][0]
    return Cost(macs // batch, interactions // batch)


def _matmul(b: int) -> Callable[[Sequence[Shape], Shape], int]:
    """Products of `[..., M, K]` with input number `b`, `[..., K, N]`."""
    return lambda inputs, output: prod(output) * (inputs[b][-2] if len(inputs[b]) > 1 else inputs[b][0])


def _gemm(inputs: Sequence[Shape], output: Shape) -> int:
    # Whichever of the two is transposed, K is what M x N leaves of A.
    return prod(output) * (prod(inputs[0]) // output[0])


def _conv(w: int) -> Callable[[Sequence[Shape], Shape], int]:
    return lambda inputs, output: prod(output) * prod(inputs[w][1:])


def _attention(inputs: Sequence[Shape], output: Shape) -> int:
    q, k, v = (_sequence_and_width(shape) for shape in inputs[:3])
    return inputs[0][0] * q[0] * k[0] * (q[1] + v[1])


def _sequence_and_width(shape: Shape) -> tuple[int, int]:
    """Of `[B, S, D]` or `[B, h, S, d]`; D is h * d."""
    return (shape[1], shape[2]) if len(shape) == 3 else (shape[2], shape[1] * shape[3])


_PRODUCTS: Mapping[str, Callable[[Sequence[Shape], Shape], int]] = {
    "MatMul": _matmul(1),
    "FusedMatMul": _matmul(1),
    "MatMulInteger": _matmul(1),
    "MatMulIntegerToFloat": _matmul(1),
    "DynamicQuantizeMatMul": _matmul(1),
    "QLinearMatMul": _matmul(3),
    "Gemm": _gemm,
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "Attention": _attention,
    "MultiHeadAttention": _attention,
}
_SOFTMAX = ("Softmax",)
# Operators that hide products in a way that is not counted here: better an error than a number too small.
_UNKNOWN_PRODUCTS = (
    "Einsum",
    "MatMulNBits",
    "MatMulBnb4",
    "PackedAttention",
    "PackedMultiHeadAttention",
    "GroupQueryAttention",
    "QAttention",
    "LSTM",
    "GRU",
    "RNN",
    "ConvTranspose",
    "If",
    "Loop",
    "Scan",
)


def _pairs(op: str, inputs: Sequence[Shape]) -> int:
    if op in ("Attention", "MultiHeadAttention"):
        return inputs[0][0] * _sequence_and_width(inputs[0])[0] * _sequence_and_width(inputs[1])[0]
    if op in _SOFTMAX and len(inputs[0] or ()) == 4:  # [B, h, queries, keys]
        batch, _, queries, keys = inputs[0]
        return batch * queries * keys
    return 0


def tensor_shapes(model: onnx.ModelProto) -> dict[str, Shape | None]:
    """The shape of every tensor; None where it is not static.

    ONNX infers its own operators, one after the other; those of `com.microsoft` that keep a shape or
    multiply matrices are known here; for others the file's own declaration counts.
    """
    import onnx

    graph = model.graph
    declared = {v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output)}
    types: dict[str, onnx.TypeProto] = {v.name: v.type for v in graph.input}
    constants: dict[str, onnx.TensorProto] = {}
    for tensor in graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        if tensor.data_location != onnx.TensorProto.EXTERNAL and prod(tensor.dims) <= 64:
            constants[tensor.name] = tensor
    for node in graph.node:
        found = {}
        if node.domain in ("", "ai.onnx"):
            found = _inferred(model, node, types, constants)
            if node.op_type == "Constant":
                constants[node.output[0]] = next(a.t for a in node.attribute if a.name == "value")
        elif node.op_type in _KEEP_SHAPE and node.input[0] in types:
            found = {node.output[0]: types[node.input[0]]}
        for name in node.output:
            known = found.get(name)
            best = known if known is not None and _static(known) is not None else declared.get(name, known)
            if best is not None:
                types[name] = best
    return {name: _static(kind) for name, kind in types.items()}


_KEEP_SHAPE = (
    "RotaryEmbedding",
    "QuickGelu",
    "Gelu",
    "FastGelu",
    "BiasGelu",
    "SkipLayerNormalization",
    "QuantizeLinear",
    "DequantizeLinear",
    "SimplifiedLayerNormalization",
)


def _inferred(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    types: Mapping[str, onnx.TypeProto],
    constants: Mapping[str, onnx.TensorProto],
) -> dict[str, onnx.TypeProto]:
    import onnx

    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    schema = onnx.defs.get_schema(node.op_type, version, "")
    names = [name for name in node.input if name]
    if any(name not in types for name in names):
        return {}
    try:
        return onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            {name: types[name] for name in names},
            {name: constants[name] for name in names if name in constants},
            opset_imports=list(model.opset_import),
            ir_version=model.ir_version,
        )
    except onnx.shape_inference.InferenceError as error:
        raise EdgeError(
            f"The shapes do not fit at '{node.name}' ({node.op_type}): {error}", "Is it a file that export wrote?"
        ) from error


def _static(kind: onnx.TypeProto) -> Shape | None:
    if not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def cost_facts(bundle: Bundle, artifact: Artifact) -> dict[str, Any]:
    """`macs`, `attention_interactions` and `counted_from`: the `graph`, or the `sizes` where there is none to read.

    A machine that only runs models may lack the `onnx` package, and an elastic file has no fixed sizes; both
    counts agree.
    """
    elastic = "profile" in artifact.details
    if artifact.path.endswith(".onnx") and not elastic and find_spec("onnx"):
        return {**asdict(cost_of_onnx(bundle.directory / artifact.path)), "counted_from": "graph"}
    cost = cost_of_model(bundle.checkpoint.config, artifact.spec, bundle.linear_heads)
    return {**asdict(cost), "counted_from": "sizes"}
