"""The patch convolution in INT8, for runtimes that take a camera's bytes.

Its input is exact there, so that only the weights are rounded, and neighbouring pixels are so alike that GPTQ makes up
for nearly all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..model.folding import InferenceWeights, pixel_layer
from .recipe import PatchRecipe, nearest_codes
from .search import SearchOptions, gptq, nearest, weight_scales


def solve_patches(
    weights: InferenceWeights, frames: Sequence[np.ndarray], options: SearchOptions, seed: int = 0
) -> PatchRecipe:
    """Rounds the patch convolution for what calibration images show.

    Args:
        frames: uint8 `[n, H, W, 3]`, one array for each image size.
        options: as many patches are looked at as token rows of other layers, of every image equally many.
    """
    weight, most = pixel_layer(weights).weight, max(options.rows, options.pooled_rows)
    rows = sampled_patches(frames, weights.config.patch_size, most, np.random.default_rng(seed))
    seen = torch.from_numpy(rows.astype(np.float64) - 128)
    exact = torch.from_numpy(weight)
    scale = weight_scales(exact, options.pairs)
    codes = nearest(exact, scale)
    if options.gptq:
        codes = gptq(exact, seen.T @ seen / len(seen), scale, options.pairs)
    stored = scale.numpy().astype(np.float32)
    rounding = codes.numpy() - nearest_codes(weight.astype(np.float32), stored)
    return PatchRecipe(stored, rounding.astype(np.int8) if rounding.any() else None)


def sampled_patches(frames: Sequence[np.ndarray], size: int, most: int, generator: np.random.Generator) -> np.ndarray:
    """About `most` random patches, uint8 `[rows, size * size * 3]` in the order of a frame's bytes."""
    each = -(-most // sum(map(len, frames)))
    found = []
    for of_one_size in frames:
        for frame in of_one_size:
            height, width = frame.shape[0] // size, frame.shape[1] // size
            patches = frame.reshape(height, size, width, size, 3).swapaxes(1, 2).reshape(height * width, -1)
            found.append(patches[generator.permutation(len(patches))[:each]])
    return np.concatenate(found)
