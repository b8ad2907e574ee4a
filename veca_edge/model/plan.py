"""One static graph of the inference form: what a core count and an image size turn into constants and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base.errors import EdgeError
from ..base.spec import GraphSpec, variant_name
from ..base.tasks import Tokens
from .config import NORM_EPS
from .folding import InferenceWeights, folded_patches
from .heads import LinearHead, active_heads, reads
from .rotary import patch_coordinates, rotary_tables, rotate


@dataclass(frozen=True)
class GraphConstants:
    """What a fixed core count and image size turn into constants, float32.

    Attributes:
        patch_weight, patch_bias: the patch convolution with, for `image` input, /255, mean and std folded in.
        cores: `[C, D]`; core_coordinates: raw `[C, 2]`.
        patch_cos, patch_sin: `[N, d / 2]`; core_cos, core_sin: `[C, d / 2]` of layer 0.
        core_qkv: `[C, 3D]`, layer 0's q (rotated), k (rotated) and v of the core tokens, which no image changes.
    """

    patch_weight: np.ndarray
    patch_bias: np.ndarray
    cores: np.ndarray
    core_coordinates: np.ndarray
    patch_cos: np.ndarray
    patch_sin: np.ndarray
    core_cos: np.ndarray
    core_sin: np.ndarray
    core_qkv: np.ndarray


def graph_constants(weights: InferenceWeights, spec: GraphSpec) -> GraphConstants:
    """Bakes the tables of one static graph. Raises `EdgeError` for an impossible size or core count."""
    config = weights.config
    config.check_core_count(spec.core_count)
    grid = config.grid(*spec.image_size)
    weight, bias = weights.patch_weight, weights.patch_bias
    if spec.normalises:
        weight, bias = (array.astype(np.float32) for array in folded_patches(weights))
    cores = weights.cores[: spec.core_count]
    raw = weights.core_coordinates[: spec.core_count]
    patch_cos, patch_sin = rotary_tables(patch_coordinates(*grid), weights.periods)
    core_cos, core_sin = rotary_tables(np.tanh(raw.astype(np.float64)), weights.periods)
    block = weights.blocks[0]
    x = cores.astype(np.float64)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + NORM_EPS) * block.attn_gain
    q, k, v = np.split(x @ block.qkv.weight.T.astype(np.float64) + block.qkv.bias, 3, axis=1)
    q, k = (rotate(t, core_cos, core_sin, config.heads) for t in (q, k))
    return GraphConstants(
        weight,
        bias,
        cores,
        raw,
        patch_cos,
        patch_sin,
        core_cos,
        core_sin,
        np.concatenate([q, k, v], axis=1).astype(np.float32),
    )


@dataclass(frozen=True)
class BlockRows:
    """Which token rows a block has to compute.

    Attributes:
        core_queries: how many core tokens ask (a prefix), and therefore leave the block.
        patch_queries: whether the patches ask, and leave the block.
        patch_keys: whether keys and values of the patches are needed (only core queries look at them).
    """

    core_queries: int
    patch_queries: bool
    patch_keys: bool

    @property
    def all_queries(self) -> bool:
        """Whether the ONNX graphs compute q for every row, so that q, k and v share one input.

        So they do in the last block too where both cores and patches leave it: to drop the few core tokens
        that nobody reads costs more operators than their rows do.
        """
        return bool(self.core_queries and self.patch_queries)


def block_rows(spec: GraphSpec, layers: int, heads: Sequence[LinearHead] = ()) -> tuple[BlockRows, ...]:
    """The rows of every block: all of them, but in the last block only what the outputs and their heads need.

    Args:
        heads: those of the model.

    Raises:
        EdgeError: an output needs a head or a block that the model does not have.
    """
    heads, last = active_heads(heads, spec.outputs), layers - 1
    if "attention" in spec.outputs and layers == 1:
        raise EdgeError(
            "The output 'attention' shows the last block but one, and this model has a single block.",
            "Leave attention out of --outputs.",
        )
    cls = "cls" in spec.outputs or any(reads(head, last, Tokens.CLS) for head in heads)
    dense = "dense" in spec.outputs or any(reads(head, last, Tokens.PATCHES, Tokens.MEAN) for head in heads)
    cls = cls or not dense  # `attention` alone needs nothing of the last block, but a block without rows is none
    every = BlockRows(spec.core_count, True, True)
    return (every,) * (layers - 1) + (BlockRows(int(cls), dense, cls),)


def watched_block(layers: int) -> int:
    """The block whose attention the output `attention` shows: the last in which every core token asks."""
    return layers - 2


@dataclass(frozen=True)
class Variant:
    """One graph to write: what, in which precision, from which weights (quantized where INT8)."""

    spec: GraphSpec
    precision: str
    weights: InferenceWeights

    @property
    def name(self) -> str:
        """File stem and display name, unique within a bundle."""
        return variant_name(self.spec.core_count, self.precision, self.spec.image_size)
