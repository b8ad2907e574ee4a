"""A dense vision transformer of the same size as a VECA, written with the same parts of the same graph writer.

The same layers, width, heads, MLP, patches and rotary embedding; but every token looks at every token,
and a class token and four registers, which have no place in the image, stand where the cores stood.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from veca_edge.base.spec import GraphSpec
from veca_edge.converters.cpu import MICROSOFT, CpuDialect
from veca_edge.converters.onnx.graph import finished_model, graph_input, later_queries
from veca_edge.converters.onnx.outputs import write_outputs
from veca_edge.model.checkpoint import Checkpoint, random_checkpoint
from veca_edge.model.config import Family
from veca_edge.model.folding import InferenceWeights
from veca_edge.model.plan import block_rows, graph_constants

# A class token and four registers, as DINOv3 has them.
TOKENS = 5


class DenseCpuDialect(CpuDialect):
    """The CPU dialect, with the attention operator that suits long rows of keys: it works in tiles."""

    def attention(self, q: ir.Value, k: ir.Value, v: ir.Value) -> ir.Value:
        return self.g(
            "MultiHeadAttention",
            q,
            k,
            v,
            domain=MICROSOFT,
            num_heads=self.config.heads,
            scale=1.0,
            dtype=ir.DataType.FLOAT,
            shape=q.shape,
        )


def dense_checkpoint(family: Family, seed: int = 0) -> Checkpoint:
    """Random weights; the "cores" are the class token and the registers."""
    return random_checkpoint(family.config(core_bank=TOKENS, chunk_size=TOKENS), seed=seed)


def onnx_from_dense(weights: InferenceWeights, spec: GraphSpec) -> ir.Model:
    """The counterpart of `onnx_from_veca` for ONNX Runtime; `spec.core_count` is `TOKENS`."""
    d = DenseCpuDialect(weights, spec, graph_constants(weights, spec))
    g, image = d.g, graph_input(spec)
    with g.within("patch_embed"):
        patches = d.patch_embed(image)
    x = g("Concat", d.array("tokens", d.per_batch(d.constants.cores)), patches, axis=1)
    # At the origin nothing rotates; ONNX Runtime turns these tables into constants.
    origin = g.constant("origin", np.zeros((d.batch, d.cores, 2), np.float32))
    states = []
    for i, (block, rows) in enumerate(zip(weights.blocks, block_rows(spec, d.config.layers), strict=True)):
        with g.within(f"blocks.{i}"):
            q, k, v = later_queries(d, block, rows, x, origin)
            if rows.all_queries:
                q = d.select(q, rows, d.token_axis)
            # `attention` hands them on.
            q.shape, q.type = ir.Shape([d.batch, d.leaving(rows), d.config.hidden]), ir.TensorType(ir.DataType.FLOAT)
            (mixed,) = d.linears(d.merge_heads([d.attention(q, k, v)]), d.leaving(rows), [block.out])
            x = g("Add", d.select(x, rows), mixed)
            x = g("Add", x, d.feed_forward(d.layer_norm(x, block.ffn_gain), d.leaving(rows), block))
            states.append(x)
    return finished_model(d, [image], write_outputs(d, states), {})
