"""The rotary embedding of the inference form: half-split pairs, tables baked in float64.

The reference has an implementation of its own, written from the paper; nothing is shared with it.
"""

from __future__ import annotations

import numpy as np

from .config import ROPE_BASE, ModelConfig


def rotary_periods(config: ModelConfig) -> np.ndarray:
    """Rotary periods `[d / 4]`, float64: 100 ** (2k / (d / 2)), some infinite."""
    count = config.head_dim // 4
    periods = ROPE_BASE ** (2.0 * np.arange(count) / (config.head_dim // 2))
    zero = round(config.rope_zero_fraction * count)
    if zero:
        periods[slice(None, zero) if config.rope_zero_from == "high" else slice(count - zero, None)] = np.inf
    return periods


def patch_coordinates(rows: int, columns: int) -> np.ndarray:
    """Centres of the patches in (-1, 1), float64 `[rows * columns, 2]` as (x, y), row by row."""
    y = 2.0 * (np.arange(rows) + 0.5) / rows - 1.0
    x = 2.0 * (np.arange(columns) + 0.5) / columns - 1.0
    return np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1).reshape(-1, 2)


def rotary_tables(coordinates: np.ndarray, periods: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, float32 `[S, d / 2]`: the angles of x, then those of y."""
    angles = (2.0 * np.pi * coordinates[:, :, None].astype(np.float64) / periods).reshape(len(coordinates), -1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, heads: int) -> np.ndarray:
    """Half-split rotation of `[S, D]` by `[S, d / 2]` tables."""
    a, b = np.split(x.reshape(len(x), heads, -1), 2, axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape)
