"""The inference form: VECA rewritten exactly, once, for every target.

`inference_weights` turns a checkpoint into folded arrays, independent of core count and image size; `plan`
fixes those two, and `InferenceModel` runs the result in PyTorch. All writers take the same arrays, so every
target computes the same thing.

The rewrites, all exact (tests hold them to 1e-5 of the reference):

- q, k and v in one matrix, 1/sqrt(d) folded into the rows of q;
- LayerNorm's gain and shift folded into the linear layer behind it, so that what is quantized is
  centred; a LayerNorm keeps only the per-channel gain that smoothing asks for (ones without);
- neighbouring rotary pairs become half-split pairs by permuting the rows of q and k in each head
  (the dot product does not notice), so that a rotation is two contiguous halves;
- `pos_alpha` folded into the coordinate layers;
- patch coordinates are constants of the image size, and so are, in layer 0, the core tokens with
  their normalised values, queries, keys, values and coordinates;
- the last layer computes only the rows that the outputs asked for need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .config import IMAGE_MEAN, IMAGE_STD, ModelConfig
from .heads import Head
from .rotary import rotary_periods

if TYPE_CHECKING:
    import torch

    from .checkpoint import Checkpoint


# x86 without VNNI adds two neighbouring products u8 x s8 in 16 bits: -32768 <= 255 * (a + b) <= 32767.
PAIR_MAX = 128
# The largest finite number of IEEE 754 binary16; what is larger is infinite in FP16.
HALF_MAX = float(np.finfo(np.float16).max)
# To where a bound is brought that is larger: real values are far below their bounds, and the weights that read them
# have to stay above FP16's subnormal numbers.
HALF_MIDDLE = 1024.0


@dataclass(frozen=True)
class LinearQuantization:
    """INT8 of one linear layer: `y = (codes @ q(x)) * weight_scale * activation_scale + bias`.

    Attributes:
        codes: int8 `[out, in]` in -127..127, symmetric, zero point 0.
        weight_scale: float32 `[out]`, per output channel.
        activation_scale: per-tensor scale of the input, symmetric signed:
            `q(x) = clip(round_half_even(x / scale), -128, 127)`.
        input_peak: the largest magnitude of the input that calibration saw, at any core count; None where a recipe
            does not say. output_peak: float32 `[out]`, that of each output channel, without the bias.
    """

    codes: np.ndarray
    weight_scale: np.ndarray
    activation_scale: float
    input_peak: float | None = None
    output_peak: np.ndarray | None = None

    def rows(self, start: int, stop: int) -> LinearQuantization:
        """That of output channels start..stop."""
        peak = None if self.output_peak is None else self.output_peak[start:stop]
        return replace(self, codes=self.codes[start:stop], weight_scale=self.weight_scale[start:stop], output_peak=peak)

    @property
    def sums_fit_16_bits(self) -> bool:
        """Whether the products of neighbouring codes (of inputs 2i and 2i + 1) with any uint8 add up within 16 bits."""
        even = self.codes.shape[1] // 2 * 2
        sums = self.codes[:, 0:even:2].astype(np.int16) + self.codes[:, 1:even:2]
        return bool((np.abs(sums) <= PAIR_MAX).all())


@dataclass(frozen=True)
class Linear:
    """`y = x @ weight.T + bias`. float32; `weight` `[out, in]`, `bias` `[out]`.

    `name` identifies the layer in recipes, graphs and reports. With `quantization` the layer runs in
    INT8 and `weight` is what the codes approximate.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    quantization: LinearQuantization | None = None

    def rows(self, start: int, stop: int, name: str) -> Linear:
        """The layer that computes output channels start..stop."""
        q = self.quantization
        return Linear(name, self.weight[start:stop], self.bias[start:stop], q and q.rows(start, stop))

    def scaled_rows(self, factors: np.ndarray) -> Linear:
        """The layer with output channels `factors` `[out]` times as large: exact for powers of two, and codes stay."""
        q = self.quantization
        if q is not None:
            peak = None if q.output_peak is None else q.output_peak * factors
            q = replace(q, weight_scale=q.weight_scale * factors, output_peak=peak)
        return replace(self, weight=self.weight * factors[:, None], bias=self.bias * factors, quantization=q)


@dataclass(frozen=True)
class Block:
    """One folded block.

    Attributes:
        position: `D -> 2`, moves the raw core coordinates before this block; None in block 0.
        attn_gain, ffn_gain: float32 `[D]`, the LayerNorms' remaining gain (ones unless smoothed).
        qkv: `D -> 3D`, rows ordered q, k, v; q and k rows half-split within each head.
    """

    position: Linear | None
    attn_gain: np.ndarray
    qkv: Linear
    out: Linear
    ffn_gain: np.ndarray
    fc1: Linear
    fc2: Linear


@dataclass(frozen=True)
class InferenceWeights:
    """A checkpoint folded for inference: float32 arrays, independent of core count and image size.

    Attributes:
        patch_weight, patch_bias: the patch convolution `[D, 3, P, P]`, `[D]`, on normalised pixels.
        patch_norm: gain and shift `[D]` of the optional LayerNorm behind it.
        cores: `[M, D]`; core_coordinates: raw `[M, 2]` (x, y).
        periods: `[d / 4]` rotary periods, infinite where nothing rotates.
        final_gain, final_shift: `[D]`; with an output projection only what smoothing leaves.
        output: the output projection `D -> D_out`, or None.
        heads: task heads, always float.
        patch_quantization: INT8 of the patch convolution on the pixels of a camera frame, or None: codes
            `[D, P * P * 3]` of `pixel_layer`, whose input is exact.
            Writers whose runtime gains by it take it, others stay float: it moves `cls` and `dense` by 4e-7 at most
            (1 - cosine, the trained demo).
    """

    config: ModelConfig
    patch_weight: np.ndarray
    patch_bias: np.ndarray
    patch_norm: tuple[np.ndarray, np.ndarray] | None
    cores: np.ndarray
    core_coordinates: np.ndarray
    periods: np.ndarray
    blocks: tuple[Block, ...]
    final_gain: np.ndarray
    final_shift: np.ndarray
    output: Linear | None
    heads: tuple[Head, ...]
    patch_quantization: LinearQuantization | None = None

    @property
    def linears(self) -> dict[str, Linear]:
        """The layers that may be quantized, by name, in order of execution."""
        layers = [layer for b in self.blocks for layer in (b.qkv, b.out, b.fc1, b.fc2)]
        if self.output is not None:
            layers.append(self.output)
        return {layer.name: layer for layer in layers}

    def with_linears(self, linears: dict[str, Linear]) -> InferenceWeights:
        """A copy in which the named layers are replaced."""

        def new(layer: Linear) -> Linear:
            return linears.get(layer.name, layer)

        blocks = tuple(replace(b, qkv=new(b.qkv), out=new(b.out), fc1=new(b.fc1), fc2=new(b.fc2)) for b in self.blocks)
        return replace(self, blocks=blocks, output=self.output and new(self.output))


def inference_weights(checkpoint: Checkpoint) -> InferenceWeights:
    """Folds a checkpoint; see the module's text for the rewrites."""
    config, read = checkpoint.config, _Tensors(checkpoint.tensors)
    final_gain, final_shift = (a.astype(np.float32) for a in read.linear("final_norm"))
    output = None
    if "output_proj.weight" in read.tensors:
        output = _folded("output_proj", read.linear("final_norm"), read.linear("output_proj"))
        final_gain, final_shift = _ones(config), np.zeros_like(final_shift)
    norm = None
    if "patch_embed.norm.weight" in read.tensors:
        gain, shift = read.linear("patch_embed.norm")
        norm = gain.astype(np.float32), shift.astype(np.float32)
    chunks = range(config.core_bank // config.chunk_size)
    return InferenceWeights(
        config=config,
        patch_weight=read.array("patch_embed.proj.weight").astype(np.float32),
        patch_bias=read.array("patch_embed.proj.bias").astype(np.float32),
        patch_norm=norm,
        cores=np.concatenate([read.array(f"query_token_chunks.{i}")[0] for i in chunks]).astype(np.float32),
        core_coordinates=np.concatenate([read.array(f"qcoord_chunks.{i}")[0] for i in chunks]).astype(np.float32),
        periods=rotary_periods(config),
        blocks=tuple(_block(config, read, i) for i in range(config.layers)),
        final_gain=final_gain,
        final_shift=final_shift,
        output=output,
        heads=checkpoint.heads,
    )


class _Tensors:
    """A checkpoint's tensors in float64, in which everything is folded."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]):
        self.tensors = tensors

    def array(self, key: str) -> np.ndarray:
        return self.tensors[key].numpy().astype(np.float64)

    def linear(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias; of a norm its gain and shift."""
        return self.array(f"{key}.weight"), self.array(f"{key}.bias")


def _block(config: ModelConfig, read: _Tensors, i: int) -> Block:
    key = f"blocks.{i}"
    qkv = _joined_qkv(config, *(read.linear(f"{key}.attn.{name}_proj") for name in "qkv"))
    return Block(
        position=_position(read, i),
        attn_gain=_ones(config),
        qkv=_folded(f"{key}.qkv", read.linear(f"{key}.norm_attn"), qkv),
        out=_linear(f"{key}.out", *read.linear(f"{key}.attn.out_proj")),
        ffn_gain=_ones(config),
        fc1=_folded(f"{key}.fc1", read.linear(f"{key}.norm_ffn"), read.linear(f"{key}.fc1")),
        fc2=_linear(f"{key}.fc2", *read.linear(f"{key}.fc2")),
    )


def _joined_qkv(
    config: ModelConfig,
    q: tuple[np.ndarray, np.ndarray],
    k: tuple[np.ndarray, np.ndarray],
    v: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """One layer of three: rows of q and k half-split within each head, those of q with the scale of attention."""
    d = config.head_dim
    half_split = np.concatenate([np.arange(0, d, 2), np.arange(1, d, 2)])
    rows = (np.arange(config.heads)[:, None] * d + half_split).reshape(-1)
    weight, bias = (np.concatenate([a[rows] * d**-0.5, b[rows], c]) for a, b, c in zip(q, k, v, strict=True))
    return weight, bias


def _position(read: _Tensors, i: int) -> Linear | None:
    """What moves the core coordinates before a block; the first block takes them as they are."""
    if i == 0:
        return None
    alpha = read.array("pos_alpha")[i - 1]
    weight, bias = read.linear(f"pos_linears.{i - 1}")
    return _linear(f"blocks.{i}.position", alpha * weight, alpha * bias)


def _folded(name: str, norm: tuple[np.ndarray, np.ndarray], layer: tuple[np.ndarray, np.ndarray]) -> Linear:
    """A layer with the gain and the shift of the LayerNorm in front of it."""
    (gain, shift), (weight, bias) = norm, layer
    return _linear(name, weight * gain, bias + weight @ shift)


def _linear(name: str, weight: np.ndarray, bias: np.ndarray) -> Linear:
    return Linear(name, weight.astype(np.float32), bias.astype(np.float32))


def _ones(config: ModelConfig) -> np.ndarray:
    return np.ones(config.hidden, np.float32)


def folded_patches(
    weights: InferenceWeights, centre: float | Sequence[float] = 0.0, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The patch convolution on `(pixel - centre) * scale` instead of normalised pixels: float64 `[D, 3, P, P]`, `[D]`.

    Args:
        centre: of all channels, or of each.
    """
    std, mean, middle = (np.broadcast_to(v, 3)[:, None, None] for v in (IMAGE_STD, IMAGE_MEAN, centre))
    weight = weights.patch_weight.astype(np.float64) / (255 * std)
    bias = weights.patch_bias + (weight * (middle - 255 * mean)).sum((1, 2, 3))
    return weight / scale, bias


def pixel_layer(weights: InferenceWeights) -> Linear:
    """The patch convolution as a layer, in float64: its input is `pixel - 128`, in the order of a frame's bytes."""
    weight, bias = folded_patches(weights, centre=128)
    rows = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    return Linear("pixels", rows, bias, weights.patch_quantization)


def smoothed(weights: InferenceWeights, factors: dict[str, np.ndarray]) -> InferenceWeights:
    """Divides each named layer's input by `factors[name]` `[in]` and multiplies its columns by it.

    The division costs nothing at run time: qkv and fc1 take it in the LayerNorm in front, the output
    projection in the rows of v (a per-channel scale of v commutes with attention), fc2 in the linear
    half of fc1, `output_proj` in the final LayerNorm. Exact but for rounding.
    """
    config = weights.config
    unknown = set(factors) - set(weights.linears)
    if unknown:
        raise ValueError(f"no such layers: {sorted(unknown)}")

    def times_columns(layer: Linear) -> Linear:
        s = factors.get(layer.name)
        return layer if s is None else replace(layer, weight=(layer.weight * s).astype(np.float32))

    def divide_rows(layer: Linear, start: int, s: np.ndarray | None) -> Linear:
        if s is None:
            return layer
        weight, bias = layer.weight.copy(), layer.bias.copy()
        weight[start:] /= s[:, None]
        bias[start:] /= s
        return replace(layer, weight=weight, bias=bias)

    def gain(value: np.ndarray, layer: Linear) -> np.ndarray:
        s = factors.get(layer.name)
        return value if s is None else (value / s).astype(np.float32)

    blocks = tuple(
        replace(
            b,
            attn_gain=gain(b.attn_gain, b.qkv),
            qkv=divide_rows(times_columns(b.qkv), 2 * config.hidden, factors.get(b.out.name)),
            out=times_columns(b.out),
            ffn_gain=gain(b.ffn_gain, b.fc1),
            fc1=divide_rows(times_columns(b.fc1), config.mlp_hidden, factors.get(b.fc2.name)),
            fc2=times_columns(b.fc2),
        )
        for b in weights.blocks
    )
    if weights.output is None:
        return replace(weights, blocks=blocks)
    return replace(
        weights,
        blocks=blocks,
        output=times_columns(weights.output),
        final_gain=gain(weights.final_gain, weights.output),
        final_shift=gain(weights.final_shift, weights.output),
    )


def within_half(weights: InferenceWeights) -> InferenceWeights:
    """The same function with no value and no gated product of a block beyond `HALF_MAX`.

    The input of a block's layers is normalised, so its length is at most sqrt(D), and norms of rows bound what they
    give (Cauchy-Schwarz). A channel that may exceed `HALF_MAX` has its rows divided by a power of two, and the columns
    that read it multiplied; of a quantized reader all channels are divided by the same, and its scales take it. Exact,
    to the bit. Nothing changes where no channel may. Scores and the residual stream have no such bound.
    """
    width, hidden = weights.config.hidden, weights.config.mlp_hidden

    def bounds(layer: Linear, gain: np.ndarray) -> np.ndarray:
        return np.linalg.norm(layer.weight * gain, axis=1) * width**0.5 + np.abs(layer.bias)

    blocks = []
    for block in weights.blocks:
        values = bounds(block.qkv, block.attn_gain)[2 * width :]
        gate, linear = np.split(bounds(block.fc1, block.ffn_gain), [hidden])
        # |silu(u)| <= |u|.
        products = np.maximum(gate, 1.0) * linear
        qkv, out = _divided(block.qkv, block.out, values)
        fc1, fc2 = _divided(block.fc1, block.fc2, products)
        blocks.append(replace(block, qkv=qkv, out=out, fc1=fc1, fc2=fc2))
    return replace(weights, blocks=tuple(blocks))


def _divided(layer: Linear, reader: Linear, bounds: np.ndarray) -> tuple[Linear, Linear]:
    """Both with powers of two moved from the last rows of one to the columns of the other, where `bounds` need it."""
    exponents = np.where(bounds > HALF_MAX, np.ceil(np.log2(np.maximum(bounds, 1.0) / HALF_MIDDLE)), 0.0)
    if not exponents.any():
        return layer, reader
    read = reader.quantization
    if read is not None:
        exponents = np.full_like(exponents, exponents.max())
    factors = np.exp2(exponents).astype(np.float32)
    rows = np.concatenate([np.ones(len(layer.bias) - len(factors), np.float32), 1 / factors])
    if read is not None:
        factor = float(factors[0])
        peak = None if read.input_peak is None else read.input_peak / factor
        scale = read.activation_scale / factor
        read = replace(read, weight_scale=read.weight_scale * factors[0], activation_scale=scale, input_peak=peak)
    return layer.scaled_rows(rows), replace(reader, weight=reader.weight * factors, quantization=read)
