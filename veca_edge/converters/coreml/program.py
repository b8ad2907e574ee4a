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

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...base.errors import EdgeError
from ...base.spec import GraphSpec
from ...model.config import IMAGE_MEAN, IMAGE_STD, NORM_EPS
from ...model.folding import Block, InferenceWeights, Linear
from ...model.plan import BlockRows, block_rows, check_outputs, graph_constants

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program

# A value of the program while it is being written (coremltools' Var).
Var = Any

HALF_MAX = 65504.0
SMALLEST_NORMAL = 2.0**-14
# Pixels 0..255 become (p - centre) / 64, which FP16 holds exactly; the patch convolution takes the rest.
PIXEL_SCALE = 1 / 64
PIXEL_CENTRE = tuple(round(255 * mean) for mean in IMAGE_MEAN)


def half(array: np.ndarray, name: str) -> np.ndarray:
    """FP16, or an `EdgeError` that names the layer whose numbers do not fit."""
    largest = float(np.abs(array).max(initial=0.0))
    if not largest <= HALF_MAX:
        raise EdgeError(
            f"'{name}' holds {largest:g}, but FP16 ends at {HALF_MAX:g}: this layer can't run in FP16.",
            "Core ML packages compute in FP16: rescale this layer's weights, or export for the target cpu.",
        )
    return array.astype(np.float16)


def half_scale(scale: np.ndarray, name: str) -> np.ndarray:
    """Quantization scales in FP16; none may vanish."""
    made = half(scale, name)
    if not (made > 0).all():
        raise EdgeError(
            f"A quantization scale of '{name}' is {float(np.min(scale)):g}, which FP16 rounds to zero.",
            "Keep this layer in FP16, or calibrate again with smoothing.",
        )
    return made


def balanced(weights: InferenceWeights) -> InferenceWeights:
    """Moves a power of two from the rows of k to those of q, which carry 1/sqrt(d) alone.

    Exact, INT8 codes included, and it keeps the small weights and scales of q out of FP16's subnormal numbers.
    """
    width, factor = weights.config.hidden, 2.0 ** (int(np.log2(weights.config.head_dim)) // 4)
    rows = np.repeat(np.array([factor, 1 / factor, 1], np.float32), width)

    def scaled(layer: Linear) -> Linear:
        q = layer.quantization
        return replace(
            layer,
            weight=layer.weight * rows[:, None],
            bias=layer.bias * rows,
            quantization=q and replace(q, weight_scale=q.weight_scale * rows),
        )

    return weights.with_linears({block.qkv.name: scaled(block.qkv) for block in weights.blocks})


def half_range(layer: Linear) -> float:
    """A power of two to take out of a layer whose weights are so small that FP16 would lose their bits, else 1.

    Trained models move their core tokens by little, and `pos_alpha` is folded into these weights.
    """
    weights = np.abs(layer.weight)
    if (weights < SMALLEST_NORMAL).mean() < 0.02:
        return 1.0
    largest = max(float(weights.max()), float(np.abs(layer.bias).max()))
    return max(2.0 ** np.floor(np.log2(largest)), SMALLEST_NORMAL) if largest > 0 else 1.0


def folded_patches(weights: InferenceWeights) -> tuple[np.ndarray, np.ndarray]:
    """The patch convolution on (pixel - PIXEL_CENTRE) * PIXEL_SCALE instead of normalised pixels; exact."""
    std, mean, centre = (np.array(v)[:, None, None] for v in (IMAGE_STD, IMAGE_MEAN, PIXEL_CENTRE))
    weight = weights.patch_weight.astype(np.float64) / (255 * std)
    bias = weights.patch_bias + (weight * (centre - 255 * mean)).sum((1, 2, 3))
    return weight / PIXEL_SCALE, bias


class Tokens:
    """`[B, S, D]`: heads are `[B, h, S, d]`, tables `[1, 1, S, d]`."""

    token_axis = 1
    channel_axis = 2
    head_token_axis = 2
    head_channel_axis = 3

    def shape(self, batch: int, tokens: int, channels: int) -> list[int]:
        return [batch, tokens, channels]

    def constant(self, rows: np.ndarray) -> np.ndarray:
        """`[S, D]` as `[1, S, D]`."""
        return rows[None]

    def constant_heads(self, rows: np.ndarray, count: int) -> np.ndarray:
        """`[S, count * d]` as heads `[1, count, S, d]`."""
        return rows.reshape(len(rows), count, -1).swapaxes(0, 1)[None]

    def patches(self, mb: Any, x: Var, batch: int, tokens: int, channels: int) -> Var:
        x = mb.reshape(x=x, shape=[batch, channels, tokens])
        return mb.transpose(x=x, perm=[0, 2, 1])

    def linear(self, mb: Any, x: Var, weight: Any, bias: np.ndarray, name: str) -> Var:
        return mb.linear(x=x, weight=weight, bias=bias, name=name)

    def weight(self, array: np.ndarray) -> np.ndarray:
        return array

    def heads(self, mb: Any, x: Var, count: int) -> Var:
        """`[B, S, count * d]` to `[B, count, S, d]`."""
        batch, tokens, width = x.shape
        x = mb.reshape(x=x, shape=[batch, tokens, count, width // count])
        return mb.transpose(x=x, perm=[0, 2, 1, 3])

    def merge(self, mb: Any, x: Var) -> Var:
        batch, heads, tokens, width = x.shape
        return mb.reshape(x=mb.transpose(x=x, perm=[0, 2, 1, 3]), shape=[batch, tokens, heads * width])

    def table(self, mb: Any, x: Var) -> Var:
        """Angles `[B, C, d]` as `[B, 1, C, d]`."""
        return mb.expand_dims(x=x, axes=[1])

    def attention(self, mb: Any, q: Var, k: Var, v: Var) -> Var:
        scores = mb.softmax(x=mb.matmul(x=q, y=k, transpose_y=True), axis=-1)
        return mb.matmul(x=scores, y=v)

    def by_row(self, mb: Any, x: Var) -> Var:
        """Tokens as `[B, S, D]`, the form that an app reads."""
        return x


class Channels(Tokens):
    """`[B, D, 1, S]`: heads are `[B, h, d, S]`, tables `[1, 1, d, S]`."""

    token_axis = 3
    channel_axis = 1
    head_token_axis = 3
    head_channel_axis = 2

    def shape(self, batch: int, tokens: int, channels: int) -> list[int]:
        return [batch, channels, 1, tokens]

    def constant(self, rows: np.ndarray) -> np.ndarray:
        return rows.T[None, :, None]

    def constant_heads(self, rows: np.ndarray, count: int) -> np.ndarray:
        return rows.T.reshape(1, count, -1, len(rows))

    def patches(self, mb: Any, x: Var, batch: int, tokens: int, channels: int) -> Var:
        return mb.reshape(x=x, shape=[batch, channels, 1, tokens])

    def linear(self, mb: Any, x: Var, weight: Any, bias: np.ndarray, name: str) -> Var:
        return mb.conv(x=x, weight=weight, bias=bias, pad_type="valid", name=name)

    def weight(self, array: np.ndarray) -> np.ndarray:
        return array[:, :, None, None]

    def heads(self, mb: Any, x: Var, count: int) -> Var:
        batch, width, _, tokens = x.shape
        return mb.reshape(x=x, shape=[batch, count, width // count, tokens])

    def merge(self, mb: Any, x: Var) -> Var:
        batch, heads, width, tokens = x.shape
        return mb.reshape(x=x, shape=[batch, heads * width, 1, tokens])

    def table(self, mb: Any, x: Var) -> Var:
        batch, width, _, tokens = x.shape
        return mb.reshape(x=x, shape=[batch, 1, width, tokens])

    def attention(self, mb: Any, q: Var, k: Var, v: Var) -> Var:
        scores = mb.softmax(x=mb.matmul(x=q, y=k, transpose_x=True), axis=-1)
        return mb.matmul(x=v, y=scores, transpose_y=True)

    def by_row(self, mb: Any, x: Var) -> Var:
        return mb.transpose(x=mb.squeeze(x=x, axes=[2]), perm=[0, 2, 1])


_LAYOUTS = {"tokens": Tokens, "ane": Channels}


class Named:
    """coremltools' builder, but an operation that is given no name is called after its block and a number (`b3_17`).

    Names are most of a program's text, which every function of a package repeats.
    """

    def __init__(self, builder: Any):
        self.builder, self.block, self.count = builder, "in", 0

    def enter(self, block: str) -> None:
        self.block, self.count = block, 0

    def __getattr__(self, operator: str) -> Any:
        def write(name: str | None = None, **inputs: Any) -> Var:
            if name is None:
                self.count += 1
                name = f"{self.block}_{self.count}"
            return getattr(self.builder, operator)(name=name, **inputs)

        return write


class Writer:
    """Writes one program. Holds what every part of it needs."""

    def __init__(self, weights: InferenceWeights, spec: GraphSpec, precision: str, layout: str, coordinates: str):
        from coremltools.converters.mil import Builder

        config = weights.config
        self.mb, self.weights, self.spec, self.config = Named(Builder), weights, spec, config
        self.layout = _LAYOUTS[layout]()
        self.quantize_activations = precision == "int8"
        self.quantize_weights = precision in ("int8", "w8")
        self.float_type = np.float32 if coordinates == "fp32" else np.float16
        self.cores, self.batch = spec.core_count, spec.batch
        rows, columns = config.grid(*spec.image_size)
        self.patches = rows * columns
        # The whole bank: functions of several core counts then share these constants and take their last rows.
        self.bank = graph_constants(weights, replace(spec, core_count=config.core_bank, input="tensor"))
        config.check_core_count(spec.core_count)
        self.int8: Var | None = None  # the string constant, which no pass shares by itself

    # Parts ------------------------------------------------------------------------------------

    def constant(self, array: np.ndarray, name: str) -> Var:
        return self.mb.const(val=half(array, name), name=name)

    def core_rows(self, x: Var, axis: int) -> Var:
        """This program's core tokens out of a constant of the whole bank, in reverse."""
        return self.rows(x, x.shape[axis] - self.cores, x.shape[axis], axis)

    def per_batch(self, array: np.ndarray) -> np.ndarray:
        return np.repeat(array, self.batch, 0)

    def rows(self, x: Var, start: int, stop: int, axis: int) -> Var:
        """Token rows start..stop; the value itself where that is all of them."""
        if (start, stop) == (0, x.shape[axis]):
            return x
        begin, end = [0] * x.rank, list(x.shape)
        begin[axis], end[axis] = start, stop
        return self.mb.slice_by_index(x=x, begin=begin, end=end)

    def concat(self, parts: Sequence[Var], axis: int) -> Var:
        return parts[0] if len(parts) == 1 else self.mb.concat(values=list(parts), axis=axis)

    def norm(self, x: Var, gain: np.ndarray, name: str, shift: np.ndarray | None = None) -> Var:
        """LayerNorm over the channels; a shift of zeros, and a gain of ones without a shift, are left out."""
        beta = None if shift is None or not shift.any() else half(shift, name)
        gamma = None if beta is None and (gain == 1).all() else half(gain, name)
        return self.mb.layer_norm(
            x=x, axes=[self.layout.channel_axis], gamma=gamma, beta=beta, epsilon=np.float16(NORM_EPS), name=name
        )

    def linear(self, x: Var, layer: Linear) -> Var:
        mb, name, q = self.mb, identifier(layer.name), layer.quantization
        bias = half(layer.bias, layer.name)
        if q is None or not self.quantize_weights:
            weight = mb.const(val=self.layout.weight(half(layer.weight, layer.name)), name=f"{name}_w")
            return self.layout.linear(mb, x, weight, bias, name)
        if self.quantize_activations:
            scale = half_scale(np.array(q.activation_scale), layer.name)[()]
            if self.int8 is None:
                self.int8 = mb.const(val="int8", name="int8")
            x = mb.quantize(input=x, scale=scale, output_dtype=self.int8, name=f"{name}_q")
            x = mb.dequantize(input=x, scale=scale, name=f"{name}_dq")
        scales = half_scale(q.weight_scale, layer.name)[:, None]
        weight = mb.constexpr_blockwise_shift_scale(
            data=self.layout.weight(q.codes), scale=self.layout.weight(scales), name=f"{name}_w"
        )
        return self.layout.linear(mb, x, weight, bias, name)

    def move_cores(self, raw: Any, x: Var, position: Linear) -> Var:
        """The raw coordinates (x, y are channels) moved by the content of the core tokens."""
        mb, name = self.mb, identifier(position.name)
        cores = self.rows(x, 0, self.cores, self.layout.token_axis)
        if self.float_type is np.float32:
            cores, scale = mb.cast(x=cores, dtype="fp32"), 1.0
            weight, bias = position.weight, position.bias
        else:
            scale = half_range(position)
            weight, bias = half(position.weight / scale, position.name), half(position.bias / scale, position.name)
        moved = self.layout.linear(mb, cores, self.layout.weight(weight), bias, name)
        if scale != 1.0:
            moved = mb.mul(x=moved, y=self.float_type(scale), name=f"{name}_scaled")
        return mb.add(x=raw, y=moved, name=f"{name}_raw")

    def core_tables(self, raw: Var, name: str) -> tuple[Var, Var]:
        """cos and sin of the core tokens at raw coordinates; the sine carries the rotation's sign."""
        mb = self.mb
        frequencies = np.kron(np.eye(2), 2 * np.pi / self.weights.periods).T  # [d / 2, 2]: x first, then y
        signed = np.concatenate([-frequencies, frequencies]).astype(self.float_type)
        at = mb.tanh(x=raw, name=f"{name}_xy")
        angles = self.layout.linear(
            mb, at, self.layout.weight(signed), np.zeros(len(signed), self.float_type), f"{name}_angles"
        )
        angles = self.layout.table(mb, angles)
        cos, sin = mb.cos(x=angles, name=f"{name}_cos"), mb.sin(x=angles, name=f"{name}_sin")
        if self.float_type is np.float32:
            cos, sin = mb.cast(x=cos, dtype="fp16"), mb.cast(x=sin, dtype="fp16")
        return cos, sin

    def patch_tables(self) -> tuple[Var, Var]:
        cos, sin = self.bank.patch_cos, self.bank.patch_sin
        cos, sin = np.concatenate([cos, cos], 1), np.concatenate([-sin, sin], 1)
        return tuple(
            self.constant(self.per_batch(self.layout.constant_heads(table, 1)), name)
            for table, name in ((cos, "patch_cos"), (sin, "patch_sin"))
        )

    def rotate(self, x: Var, cos: Var, sin: Var) -> Var:
        mb, axis = self.mb, self.layout.head_channel_axis
        first, second = mb.split(x=x, num_splits=2, axis=axis)
        swapped = mb.concat(values=[second, first], axis=axis)
        return mb.add(x=mb.mul(x=x, y=cos), y=mb.mul(x=swapped, y=sin))

    def leaving(self, x: Var, rows: BlockRows, axis: int) -> Var:
        """Of C + N token rows, those that ask in this block and leave it: they are neighbours."""
        stop = self.cores + self.patches if rows.patch_queries else self.cores
        return self.rows(x, self.cores - rows.core_queries, stop, axis)

    # The blocks -------------------------------------------------------------------------------

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

    # Ends -------------------------------------------------------------------------------------

    def embed(self, image: Var) -> Var:
        """The input (float32) to patch tokens."""
        mb, size = self.mb, self.config.patch_size
        x = mb.cast(x=image, dtype="fp16", name="image_half")
        weight, bias = self.weights.patch_weight, self.weights.patch_bias
        if self.spec.input == "image":
            weight, bias = folded_patches(self.weights)
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

    def outputs(self, x: Var, probabilities: bool) -> tuple[Var, ...]:
        """Final norm, projection and head, split into the outputs asked for, in FP16."""
        mb, axis, wanted, weights = self.mb, self.layout.token_axis, self.spec.outputs, self.weights
        x = self.norm(x, weights.final_gain, "final_norm", weights.final_shift)
        if weights.output is not None:
            x = self.linear(x, weights.output)
        made: dict[str, Var] = {}
        has_cls = "cls" in wanted or "logits" in wanted
        if has_cls:
            width = x.shape[self.layout.channel_axis]
            made["cls"] = mb.reshape(x=self.rows(x, 0, 1, axis), shape=[self.batch, width])
            if "logits" in wanted and (head := weights.head) is not None:
                made["logits"] = mb.linear(
                    x=made["cls"], weight=half(head.weight, head.name), bias=half(head.bias, head.name), name="logits"
                )
        if "dense" in wanted:
            first = int(has_cls)
            made["dense"] = self.layout.by_row(mb, self.rows(x, first, first + self.patches, axis))
        if probabilities:
            made["probabilities"] = mb.softmax(x=made["logits"], axis=-1)
        results = [name for name in (*wanted, "probabilities") if name in made]
        for name in results:
            made[name].name = name
        return tuple(made[name] for name in results)

    def write(self, image: Var, probabilities: bool) -> tuple[Var, ...]:
        layout, config = self.layout, self.config
        patches = self.embed(image)
        cores = self.constant(self.per_batch(layout.constant(self.bank.cores[::-1])), "cores")
        x = self.concat([self.core_rows(cores, layout.token_axis), patches], layout.token_axis)
        coordinates = self.bank.core_coordinates[: self.cores][::-1]
        raw: Any = self.per_batch(layout.constant(coordinates)).astype(self.float_type)
        self.tables = self.patch_tables()
        for i, (block, rows) in enumerate(zip(self.weights.blocks, block_rows(self.spec, config.layers), strict=True)):
            self.mb.enter(f"b{i}")
            if block.position is None:
                queries = self.first_queries(block, rows, patches)
            else:
                raw = self.move_cores(raw, x, block.position)
                queries = self.later_queries(i, block, rows, x, raw)
            x = self.finish_block(i, block, rows, x, *queries)
        self.mb.enter("out")
        return self.outputs(x, probabilities)


def identifier(name: str) -> str:
    """A layer's name as MIL allows it, and short: `b3_fc1` is `blocks.3.fc1`."""
    return name.replace("blocks.", "b").replace(".", "_")


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

    check_outputs(weights, spec.outputs)
    writer = Writer(weights, spec, precision, layout, coordinates)
    shape = (spec.batch, 3, *spec.image_size)

    @mb.program(input_specs=[mb.TensorSpec(shape, types.fp32)], opset_version=getattr(ct.target, f"iOS{ios}"))
    def program(image: Var) -> tuple[Var, ...]:
        return writer.write(image, probabilities)

    return program
