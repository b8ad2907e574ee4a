"""Patch features as colours: their three main components, on axes that stay the same for a whole run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..base.errors import EdgeError

# So many patches say what the axes are; more would not move them.
MOST_PATCHES = 4096


@dataclass(frozen=True)
class PatchBasis:
    """Axes of patch features, one for red, green and blue each, and the values that are black and full.

    Attributes:
        mean: float32 `[D]`.
        axes: float32 `[D, 3]`; the first holds most of what differs between patches.
        low, high: float32 `[3]`, along each axis.
    """

    mean: np.ndarray
    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray


def patch_basis(features: np.ndarray) -> PatchBasis:
    """The axes of the first frames of a run; with one basis for all its frames, colours do not flicker.

    Args:
        features: `dense` of one or several frames, `[..., N, D]`.

    Raises:
        EdgeError: there are no patches, or a feature is not finite.
    """
    rows = np.asarray(features, np.float32)
    if rows.ndim < 2 or rows.size == 0:
        raise EdgeError(f"Features of {list(rows.shape)} have no patches.", "Give `dense` of a model, [N, D].")
    rows = rows.reshape(-1, rows.shape[-1])
    if not np.isfinite(rows).all():
        raise EdgeError("Features that are not finite have no main components.", "See veca-edge verify BUNDLE.")
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_PATCHES)).astype(int)]
    mean = rows.mean(0)
    _, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean))  # ascending
    axes = np.zeros((rows.shape[1], 3), np.float32)
    axes[:, : min(3, rows.shape[1])] = vectors[:, ::-1][:, :3]
    # An axis and its opposite are equally good: the larger entry is positive, so that runs agree.
    axes *= np.where(np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0) < 0, -1, 1)
    low, high = np.percentile((rows - mean) @ axes, (1, 99), axis=0).astype(np.float32)
    return PatchBasis(mean, axes, low, high)


def patch_colours(features: np.ndarray, basis: PatchBasis, grid: tuple[int, int]) -> np.ndarray:
    """One frame's patches as colours.

    Args:
        features: `dense`, `[N, D]`.
        grid: rows and columns of the patches.

    Returns:
        float32 `[rows, columns, 3]`, 0 to 255; `map_to_frame` brings it to the frame.

    Raises:
        EdgeError: the features are not of this grid or basis.
    """
    wanted = grid[0] * grid[1], len(basis.mean)
    if np.shape(features) != wanted:
        raise EdgeError(
            f"Features of {list(np.shape(features))} are not of a grid of {grid[0]}x{grid[1]} patches in this basis.",
            f"Give `dense` of one frame: {list(wanted)}.",
        )
    along = (np.asarray(features, np.float32) - basis.mean) @ basis.axes
    # An axis along which nothing differs is grey.
    width = basis.high - basis.low
    share = np.where(width > 0, (along - basis.low) / np.where(width > 0, width, 1), 0.5)
    return (255 * np.clip(share, 0, 1)).reshape(*grid, 3).astype(np.float32)
