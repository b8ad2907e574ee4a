"""VECA as subgraphs of a LiteRT file, operator by operator.

What it keeps to, so that XNNPACK takes a whole subgraph and GPU delegates too: ranks up to 4, static shapes, nothing
but float tensors between the image and the outputs, no gather, attention as two products and a softmax, a LayerNorm
in elementary operators, and no transposed operand of a product.

The image is UINT8 with a scale and a zero point that bring it to -1..1, which DEQUANTIZE makes float: a CAST would
leave XNNPACK. The patch convolution takes the rest of the normalisation; centred pixels cost it less rounding, and its
weights stay large enough for FP16.

Queries and keys are rotated where they stand, `[B, S, 2h, d]`, as `x * cos + swapped_halves(x) * sin` with the sign in
the sine; each is then moved once into the order that its product asks for.
"""

from __future__ import annotations

import numpy as np

from ...base.errors import EdgeError
from ...base.spec import Precision
from ...model.config import NORM_EPS
from ...model.folding import HALF_MAX, Block, Linear, folded_patches
from ...model.plan import BlockRows, Variant, block_rows, graph_constants, watched_block
from .flatbuffer import TfliteBuilder
from .operators import Subgraph

# Pixels 0..255 become (p - PIXEL_CENTRE) * PIXEL_SCALE, exactly.
PIXEL_SCALE, PIXEL_CENTRE = 1 / 128, 128


class GraphWriter:
    """What every part of one subgraph needs, and the parts that are written in several places."""

    def __init__(self, file: TfliteBuilder, variant: Variant, name: str):
        self.g, self.weights, self.spec, self.config = (
            Subgraph(file, name),
            variant.weights,
            variant.spec,
            variant.weights.config,
        )
        self.half_weights = variant.precision == Precision.FP16
        self.cores, self.batch = self.spec.core_count, self.spec.batch
        self.grid = self.config.grid(*self.spec.image_size)
        self.patches = self.grid[0] * self.grid[1]
        self.constants = graph_constants(self.weights, self.spec)

    def per_batch(self, array: np.ndarray) -> np.ndarray:
        return np.repeat(array, self.batch, 0)

    def weight(self, array: np.ndarray, name: str) -> int:
        """A float weight: as it is, or stored in half the bytes and made float32 when the file is loaded."""
        if not self.half_weights:
            return self.g.floats(array)
        largest = float(np.abs(array).max(initial=0.0))
        if not largest <= HALF_MAX:
            raise EdgeError(
                f"'{name}' holds {largest:g}, but FP16 ends at {HALF_MAX:g}: its weights can't be stored so.",
                "Export --precision fp32, or rescale this layer's weights.",
            )
        return self.g.dequantize(self.g.constant(array.astype(np.float16)))

    def linear(self, x: int, layer: Linear, stays_float: bool = False) -> int:
        g, q, name = self.g, layer.quantization, layer.name.replace("blocks.", "b").replace(".", "_")
        if q is None or stays_float:
            return g.linear(x, self.weight(layer.weight, layer.name), layer.bias, name)
        return g.linear(x, g.constant(q.codes, f"{name}_codes", q.weight_scale), layer.bias, name)

    def norm(self, x: int, gain: np.ndarray, shift: np.ndarray | None = None) -> int:
        """LayerNorm over the channels; a gain of ones and a shift of zeros are left out."""
        g = self.g
        centred = g.sub(x, g.mean(x))
        variance = g.mean(g.mul(centred, centred))
        y = g.mul(centred, g.unary("RSQRT", g.add(variance, g.floats(np.array([NORM_EPS])))))
        if not (gain == 1).all():
            y = g.mul(y, g.floats(gain))
        return y if shift is None or not shift.any() else g.add(y, g.floats(shift))

    def by_head(self, x: int, count: int) -> int:
        """`[B, S, count * d]` to `[B, S, count, d]`."""
        batch, tokens, _ = self.g.shape(x)
        return self.g.reshape(x, [batch, tokens, count, self.config.head_dim])

    def leaving(self, x: int, rows: BlockRows, axis: int) -> int:
        """Of C + N token rows, those that ask in this block and leave it."""
        g, whole = self.g, self.cores + self.patches
        if not rows.patch_queries:
            return g.rows(x, 0, rows.core_queries, axis)
        if rows.core_queries in (0, self.cores):
            return g.rows(x, self.cores - rows.core_queries, whole, axis)
        return g.concat([g.rows(x, 0, rows.core_queries, axis), g.rows(x, self.cores, whole, axis)], axis)


class BlockWriter:
    """The way of the tokens through the blocks."""

    def __init__(self, writer: GraphWriter):
        self.w, self.g = writer, writer.g
        self.looks: int | None = None

    def states(self, image: int) -> list[int]:
        """What leaves every block: core tokens and patches `[B, C + N, D]`; of the last, only what is asked for.

        `looks` is set to `[B, N, 1]`, where the core tokens look, if that is an output.
        """
        w, g = self.w, self.g
        patches = self.embed(image)
        x = g.concat([g.floats(w.per_batch(w.constants.cores[None])), patches], 1)
        raw = g.floats(w.per_batch(w.constants.core_coordinates[None]))
        self.patch_tables = self.tables_of_patches()
        states = []
        for i, (block, rows) in enumerate(
            zip(w.weights.blocks, block_rows(w.spec, w.config.layers, w.weights.heads), strict=True)
        ):
            g.enter(f"b{i}")
            if block.position is None:
                queries = self.first_queries(block, rows, patches)
            else:
                moved = g.linear(
                    g.rows(x, 0, w.cores, 1), g.floats(block.position.weight), block.position.bias, f"b{i}_position"
                )
                raw = g.add(moved, raw)
                queries = self.later_queries(block, rows, x, raw)
            if "attention" in w.spec.outputs and i == watched_block(w.config.layers):
                self.looks = self.looks_of(*queries[:2])
            x = self.finish_block(block, rows, x, *queries)
            states.append(x)
        return states

    def embed(self, image: int) -> int:
        """The input to patch tokens `[B, N, D]`."""
        w, g = self.w, self.g
        if w.spec.input == "image":
            x, (weight, bias) = g.dequantize(image), folded_patches(w.weights, PIXEL_CENTRE, PIXEL_SCALE)
        else:
            x, weight, bias = g.transpose(image, [0, 2, 3, 1]), w.weights.patch_weight, w.weights.patch_bias
        weight = w.weight(weight.transpose(0, 2, 3, 1), "patch_embed")
        x = g.convolution(x, weight, bias, w.config.patch_size)
        x = g.reshape(x, [w.batch, w.patches, w.config.hidden])
        return x if w.weights.patch_norm is None else w.norm(x, *w.weights.patch_norm)

    # ------------------------------------------------------------------------------ rotations

    def tables_of_patches(self) -> tuple[int, int]:
        """cos and sin `[B, N, 1, d]`; the sine carries the rotation's sign."""
        w = self.w
        cos, sin = w.constants.patch_cos, w.constants.patch_sin
        cos, sin = np.concatenate([cos, cos], 1), np.concatenate([-sin, sin], 1)
        cos, sin = (self.g.floats(w.per_batch(table[None, :, None])) for table in (cos, sin))
        return cos, sin

    def tables_of_cores(self, raw: int) -> tuple[int, int]:
        """The same of the core tokens `[B, C, 1, d]`, at raw coordinates `[B, C, 2]`."""
        w, g = self.w, self.g
        frequencies = np.kron(np.eye(2), 2 * np.pi / w.weights.periods).T  # [d / 2, 2]: x first, then y
        signed = np.concatenate([-frequencies, frequencies])
        angles = g.linear(g.unary("TANH", raw), g.floats(signed), np.zeros(len(signed)))
        angles = g.reshape(angles, [w.batch, w.cores, 1, w.config.head_dim])
        return g.unary("COS", angles), g.unary("SIN", angles)

    def rotate(self, x: int, cos: int, sin: int) -> int:
        """`[B, S, n, d]` by tables `[B, S, 1, d]`."""
        g = self.g
        first, second = g.halves(x, 3)
        return g.add(g.mul(x, cos), g.mul(g.concat([second, first], 3), sin))

    # ------------------------------------------------------------------------------- attention

    def first_queries(self, block: Block, rows: BlockRows, patches: int) -> tuple[int, int, int]:
        """q, k, v `[B, S, h, d]` of block 0, where the rows of the core tokens are constants."""
        w, g, heads, width = self.w, self.g, self.w.config.heads, self.w.config.hidden
        q, k, v = (
            g.floats(w.per_batch(part.reshape(1, w.cores, heads, -1)))
            for part in np.split(w.constants.core_qkv, 3, axis=1)
        )
        q = g.rows(q, 0, rows.core_queries, 1) if rows.core_queries else None
        if not (rows.patch_queries or rows.patch_keys):
            assert q is not None
            return q, k, v
        y = w.norm(patches, block.attn_gain)
        qkv = w.linear(y, block.qkv)
        turned = self.rotate(w.by_head(g.rows(qkv, 0, 2 * width, 2), 2 * heads), *self.patch_tables)
        patch_q, patch_k = g.halves(turned, 2)
        patch_v = w.by_head(g.rows(qkv, 2 * width, 3 * width, 2), heads)
        if rows.patch_queries:
            q = patch_q if q is None else g.concat([q, patch_q], 1)
        assert q is not None
        if rows.patch_keys:
            k, v = g.concat([k, patch_k], 1), g.concat([v, patch_v], 1)
        return q, k, v

    def later_queries(self, block: Block, rows: BlockRows, x: int, raw: int) -> tuple[int, int, int]:
        """q, k, v of a later block, where core tokens stand at coordinates that depend on the image."""
        w, g, heads, width = self.w, self.g, self.w.config.heads, self.w.config.hidden
        y = w.norm(x, block.attn_gain)
        core_tables = self.tables_of_cores(raw)
        tables = tuple(g.concat(pair, 1) for pair in zip(core_tables, self.patch_tables, strict=True))
        if rows.all_queries:
            qkv = w.linear(y, block.qkv)
            turned = self.rotate(w.by_head(g.rows(qkv, 0, 2 * width, 2), 2 * heads), *tables)
            q, k = g.halves(turned, 2)
            return w.leaving(q, rows, 1), k, w.by_head(g.rows(qkv, 2 * width, 3 * width, 2), heads)
        # The last block: fewer rows ask, or are looked at.
        name = block.qkv.name
        asking = w.linear(w.leaving(y, rows, 1), block.qkv.rows(0, width, f"{name}.queries"))
        q = self.rotate(w.by_head(asking, heads), *(w.leaving(table, rows, 1) for table in tables))
        if not rows.patch_keys:
            y, tables = g.rows(y, 0, w.cores, 1), core_tables
        kv = w.linear(y, block.qkv.rows(width, 3 * width, f"{name}.keys_values"))
        k = self.rotate(w.by_head(g.rows(kv, 0, width, 2), heads), *tables)
        return q, k, w.by_head(g.rows(kv, width, 2 * width, 2), heads)

    def looks_of(self, q: int, k: int) -> int:
        """The core tokens' attention on the patches, the mean of cores and heads: `[B, N, 1]`."""
        w, g = self.w, self.g
        q, k = g.transpose(g.rows(q, 0, w.cores, 1), [0, 2, 1, 3]), g.transpose(k, [0, 2, 3, 1])
        weights = g.rows(g.softmax(g.matmul(q, k)), w.cores, w.cores + w.patches, 3)
        weights = g.reshape(weights, [w.batch, w.config.heads * w.cores, w.patches])
        return g.mean(g.transpose(weights, [0, 2, 1]))

    def finish_block(self, block: Block, rows: BlockRows, x: int, q: int, k: int, v: int) -> int:
        """Attention, its projection, and the feed-forward, on the rows that leave the block."""
        w, g, asking = self.w, self.g, rows.core_queries
        q, k, v = g.transpose(q, [0, 2, 1, 3]), g.transpose(k, [0, 2, 3, 1]), g.transpose(v, [0, 2, 1, 3])
        parts = []
        if asking:
            parts.append(g.matmul(g.softmax(g.matmul(g.rows(q, 0, asking, 2), k)), v))
        if rows.patch_queries:
            patch_q = g.rows(q, asking, asking + w.patches, 2)
            core_k, core_v = g.rows(k, 0, w.cores, 3), g.rows(v, 0, w.cores, 2)
            parts.append(g.matmul(g.softmax(g.matmul(patch_q, core_k)), core_v))
        mixed = g.transpose(g.concat(parts, 2), [0, 2, 1, 3])
        mixed = g.reshape(mixed, [w.batch, g.shape(mixed)[1], w.config.hidden])
        x = g.add(w.leaving(x, rows, 1), w.linear(mixed, block.out))
        gate, value = g.halves(w.linear(w.norm(x, block.ffn_gain), block.fc1), 2)
        return g.add(x, w.linear(g.mul(g.mul(gate, g.unary("LOGISTIC", gate)), value), block.fc2))
