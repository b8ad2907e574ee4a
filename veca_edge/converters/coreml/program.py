"""VECA as a Core ML ML Program, operation by operation.

The program is written with coremltools' builder instead of being traced from PyTorch: coremltools 9
can't trace this model with current versions of numpy and torch, and a written program has exactly the
operations, types, names and shared constants that it needs, a third of what tracing gives.

What it keeps to: FP16, ranks up to 4, no integer tensors, no gather, attention as matmul and softmax,
`layer_norm` as one operation, and nothing but INT8 codes, their scales and the bias in a quantized
layer. Two layouts compute the same:

- `tokens`: `[B, S, D]` with `linear`, the ordinary form;
- `ane`: `[B, D, 1, S]` with 1x1 convolutions, the form Apple advises for the Neural Engine. Heads are a
  plain reshape there, so the whole program has no transposes between input and output.

A rotation is `x * cos + swapped_halves(x) * sin` with the sign in the sine: queries and keys go through it
together. Core tokens stand in reverse in front of the patches, so that what leaves the last block, the first core
token and the patches, is one slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...base.spec import GraphSpec
from ...model.folding import Block, InferenceWeights, folded_patches
from ...model.plan import BlockRows, block_rows, watched_block
from .outputs import write_outputs
from .writer import PIXEL_CENTRE, PIXEL_SCALE, Var, Writer, half

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program


class ProgramWriter(Writer):
    """Writes one program."""

    def first_queries(self, block: Block, rows: BlockRows, patches: Var) -> tuple[Var, Var, Var]:
        """q, k, v of block 0, where the rows of the core tokens are constants."""
        heads, width, axis = self.config.heads, self.config.hidden, self.layout.head_token_axis
        core_qk, core_v = (
            self.constant(self.per_batch(self.layout.constant_heads(part[::-1], count)), name)
            for part, count, name in (
                (self.bank.core_qkv[:, : 2 * width], 2 * heads, "core_qk"),
                (self.bank.core_qkv[:, 2 * width :], heads, "core_v"),
            )
        )
        core_qk, core_v = (self.core_rows(x, axis) for x in (core_qk, core_v))
        if not (rows.patch_queries or rows.patch_keys):
            q, k = self.mb.split(x=core_qk, num_splits=2, axis=1)
            return self.leaving(q, rows, axis), k, core_v
        y = self.norm(patches, block.attn_gain, "b0_norm1")
        qkv = self.layout.heads(self.mb, self.linear(y, block.qkv), 3 * heads)
        qk, v = self.mb.split(x=qkv, split_sizes=[2 * heads, heads], axis=1)
        qk = self.concat([core_qk, self.rotate(qk, *self.tables)], axis)
        q, k = self.mb.split(x=qk, num_splits=2, axis=1)
        return self.leaving(q, rows, axis), k, self.concat([core_v, v], axis)

    def later_queries(self, i: int, block: Block, rows: BlockRows, x: Var, raw: Var) -> tuple[Var, Var, Var]:
        """q, k, v of a later block, where core tokens stand at coordinates that depend on the image."""
        layout, heads, width = self.layout, self.config.heads, self.config.hidden
        y = self.norm(x, block.attn_gain, f"b{i}_norm1")
        core_tables = self.core_tables(raw, f"b{i}")
        cos, sin = (self.concat(pair, layout.head_token_axis) for pair in zip(core_tables, self.tables, strict=True))
        everything = rows.core_queries == self.cores and rows.patch_queries and rows.patch_keys
        if everything:
            qkv = layout.heads(self.mb, self.linear(y, block.qkv), 3 * heads)
            qk, v = self.mb.split(x=qkv, split_sizes=[2 * heads, heads], axis=1)
            q, k = self.mb.split(x=self.rotate(qk, cos, sin), num_splits=2, axis=1)
            return q, k, v
        # The last block: fewer rows ask, or are looked at.
        name = block.qkv.name
        asking = self.linear(self.leaving(y, rows, layout.token_axis), block.qkv.rows(0, width, f"{name}.queries"))
        q = self.rotate(
            layout.heads(self.mb, asking, heads), *(self.leaving(t, rows, layout.head_token_axis) for t in (cos, sin))
        )
        if not rows.patch_keys:
            y, (cos, sin) = self.rows(y, 0, self.cores, layout.token_axis), core_tables
        kv = layout.heads(self.mb, self.linear(y, block.qkv.rows(width, 3 * width, f"{name}.keys_values")), 2 * heads)
        k, v = self.mb.split(x=kv, num_splits=2, axis=1)
        return q, self.rotate(k, cos, sin), v

    def finish_block(self, i: int, block: Block, rows: BlockRows, x: Var, q: Var, k: Var, v: Var) -> Var:
        """Attention, its projection, and the feed-forward, on the rows that leave the block."""
        mb, layout, axis, asking = self.mb, self.layout, self.layout.head_token_axis, rows.core_queries
        if asking and rows.patch_queries:
            core_q, patch_q = mb.split(x=q, split_sizes=[asking, self.patches], axis=axis)
        else:
            core_q = patch_q = q
        parts = []
        if asking:
            parts.append(layout.attention(mb, core_q, k, v))
        if rows.patch_queries:
            core_k, core_v = (self.rows(t, 0, self.cores, axis) for t in (k, v))
            parts.append(layout.attention(mb, patch_q, core_k, core_v))
        mixed = layout.merge(mb, self.concat(parts, axis))
        x = mb.add(x=self.leaving(x, rows, layout.token_axis), y=self.linear(mixed, block.out))
        y = self.linear(self.norm(x, block.ffn_gain, f"b{i}_norm2"), block.fc1)
        gate, value = mb.split(x=y, num_splits=2, axis=layout.channel_axis)
        return mb.add(x=x, y=self.linear(mb.mul(x=mb.silu(x=gate), y=value), block.fc2))

    def embed(self, image: Var) -> Var:
        """The input (float32) to patch tokens."""
        mb, size = self.mb, self.config.patch_size
        x = mb.cast(x=image, dtype="fp16", name="image_half")
        weight, bias = self.weights.patch_weight, self.weights.patch_bias
        if self.spec.input == "image":
            weight, bias = folded_patches(self.weights, PIXEL_CENTRE, PIXEL_SCALE)
            x = mb.mul(x=x, y=np.float16(PIXEL_SCALE), name="image_scaled")
            shift = -np.array(PIXEL_CENTRE) * PIXEL_SCALE
            x = mb.add(x=x, y=half(shift.reshape(1, 3, 1, 1), "image"), name="image_centred")
        x = mb.conv(
            x=x,
            weight=half(weight, "patch_embed"),
            bias=half(bias, "patch_embed"),
            strides=[size, size],
            pad_type="valid",
            name="patch_embed",
        )
        x = self.layout.patches(mb, x, self.batch, self.patches, self.config.hidden)
        if self.weights.patch_norm is not None:
            gain, shift = self.weights.patch_norm
            x = self.norm(x, gain, "patch_embed_norm", shift)
        return x

    def write(self, image: Var, probabilities: bool) -> tuple[Var, ...]:
        layout, config = self.layout, self.config
        patches = self.embed(image)
        cores = self.constant(self.per_batch(layout.constant(self.bank.cores[::-1])), "cores")
        x = self.concat([self.core_rows(cores, layout.token_axis), patches], layout.token_axis)
        coordinates = self.bank.core_coordinates[: self.cores][::-1]
        raw: Any = self.per_batch(layout.constant(coordinates)).astype(self.float_type)
        self.tables = self.patch_tables()
        states, looks = [], None
        for i, (block, rows) in enumerate(
            zip(self.weights.blocks, block_rows(self.spec, config.layers, self.weights.heads), strict=True)
        ):
            self.mb.enter(f"b{i}")
            if block.position is None:
                queries = self.first_queries(block, rows, patches)
            else:
                raw = self.move_cores(raw, x, block.position)
                queries = self.later_queries(i, block, rows, x, raw)
            if "attention" in self.spec.outputs and i == watched_block(config.layers):
                looks = self.looks(*queries[:2])
            x = self.finish_block(i, block, rows, x, *queries)
            states.append(x)
        self.mb.enter("out")
        return write_outputs(self, states, looks, probabilities)

    def looks(self, q: Var, k: Var) -> Var:
        """The core tokens' attention on the patches, the mean of cores and heads: `[B, 1, N]`."""
        weights = self.layout.shares(self.mb, self.rows(q, 0, self.cores, self.layout.head_token_axis), k)
        weights = self.rows(weights, self.cores, self.cores + self.patches, 3)
        rows = self.config.heads * self.cores
        weights = self.mb.reshape(x=weights, shape=[self.batch, rows, self.patches])
        share = half(np.full((1, 1, rows), 1 / rows), "looks")
        return self.mb.matmul(x=share, y=weights)


def mil_from_veca(
    weights: InferenceWeights,
    spec: GraphSpec,
    precision: str,
    ios: int,
    layout: str = "tokens",
    coordinates: str = "fp16",
    probabilities: bool = False,
) -> Program:
    """Writes one static program with the function `main`, the input `image` and the outputs of `spec`.

    Args:
        precision: `int8` (W8A8), `w8` (weights only) or `fp16`; layers without a quantization stay FP16.
        coordinates: type of the core tokens' coordinates and angles, `fp16` or `fp32`.
        probabilities: adds the output `probabilities`, the softmax of the logits.

    Raises:
        EdgeError: impossible core count, image size or outputs, or numbers that FP16 can't hold.
    """
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    writer = ProgramWriter(weights, spec, precision, layout, coordinates)
    shape = (spec.batch, 3, *spec.image_size)

    @mb.program(input_specs=[mb.TensorSpec(shape, types.fp32)], opset_version=getattr(ct.target, f"iOS{ios}"))
    def program(image: Var) -> tuple[Var, ...]:
        return writer.write(image, probabilities)

    return program
