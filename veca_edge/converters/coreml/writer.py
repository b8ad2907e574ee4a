"""What a Core ML program is written with: numbers in FP16, the two layouts, and parts that blocks and outputs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...base.errors import EdgeError
from ...base.spec import GraphSpec
from ...model.config import IMAGE_MEAN, NORM_EPS
from ...model.folding import HALF_MAX, InferenceWeights, Linear
from ...model.plan import BlockRows, graph_constants

# A value of the program while it is being written (coremltools' Var).
Var = Any

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
    return weights.with_linears({block.qkv.name: block.qkv.scaled_rows(rows) for block in weights.blocks})


def half_range(layer: Linear) -> float:
    """A power of two to take out of a layer whose weights are so small that FP16 would lose their bits, else 1.

    Trained models move their core tokens by little, and `pos_alpha` is folded into these weights.
    """
    weights = np.abs(layer.weight)
    if (weights < SMALLEST_NORMAL).mean() < 0.02:
        return 1.0
    largest = max(float(weights.max()), float(np.abs(layer.bias).max()))
    return max(2.0 ** np.floor(np.log2(largest)), SMALLEST_NORMAL) if largest > 0 else 1.0


class RowLayout:
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

    def shares(self, mb: Any, q: Var, k: Var) -> Var:
        """How each query shares its attention among the keys: `[B, h, Q, S]`."""
        return mb.softmax(x=mb.matmul(x=q, y=k, transpose_y=True), axis=-1)

    def attention(self, mb: Any, q: Var, k: Var, v: Var) -> Var:
        return mb.matmul(x=self.shares(mb, q, k), y=v)

    def by_row(self, mb: Any, x: Var) -> Var:
        """RowLayout as `[B, S, D]`, the form that an app reads."""
        return x


class ChannelLayout(RowLayout):
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

    def shares(self, mb: Any, q: Var, k: Var) -> Var:
        return mb.softmax(x=mb.matmul(x=q, y=k, transpose_x=True), axis=-1)

    def attention(self, mb: Any, q: Var, k: Var, v: Var) -> Var:
        return mb.matmul(x=v, y=self.shares(mb, q, k), transpose_y=True)

    def by_row(self, mb: Any, x: Var) -> Var:
        return mb.transpose(x=mb.squeeze(x=x, axes=[2]), perm=[0, 2, 1])


_LAYOUTS = {"tokens": RowLayout, "ane": ChannelLayout}


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
    """What every part of one program needs, and the parts that are written in several places."""

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

    def linear(self, x: Var, layer: Linear, float_name: str = "") -> Var:
        """A linear layer; under another name, one that stays float."""
        mb, name, q = self.mb, float_name or identifier(layer.name), None if float_name else layer.quantization
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


def identifier(name: str) -> str:
    """A layer's name as MIL allows it, and short: `b3_fc1` is `blocks.3.fc1`."""
    return name.replace("blocks.", "b").replace(".", "_")
