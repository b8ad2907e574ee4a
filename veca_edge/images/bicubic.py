"""Antialiased bicubic resizing, to the bit as Pillow does it, in products of matrices.

Pillow weighs pixels by whole multiples of 2^-22, first along rows, then along columns, and rounds each to 8 bits. In
float64 such sums are exact in whatever order they are taken, so every machine's BLAS gives the same, in less time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

# Of a weight, after the binary point.
PRECISION_BITS = 22
# Of the cubic, and how far it reaches to either side.
A, SUPPORT = -0.5, 2.0
# A result takes a few pixels, and its neighbours almost the same ones: so many share a matrix of weights. With more of
# them it holds more zeros, with fewer there are more products to call for.
BAND = 8
# What one product may multiply. OpenBLAS, with which NumPy mostly comes, spreads larger ones over threads of its own,
# which would take a core from whoever works on another frame.
MULTIPLICATIONS = 1 << 18
# So many numbers of a picture are held at once, before they are weighed.
STRIP = 1 << 18


class _Band(NamedTuple):
    """The results `made` are the pixels `taken` times `weights`, float64 `[pixels, results]`."""

    taken: slice
    made: slice
    weights: np.ndarray


def bicubic(channels: Sequence[np.ndarray], size: tuple[int, int], box: tuple[float, float]) -> np.ndarray:
    """A picture in another size: what Pillow's `resize(size, Resampling.BICUBIC, (0, 0, *box))` makes of it.

    Args:
        channels: uint8 `[h, w]` each, with any distance from one pixel to the next.
        size: width and height.
        box: width and height of the part that is resized, from the top left corner.

    Returns:
        uint8 `[height, width, channels]`.
    """
    width, height = size
    across, down = _bands(channels[0].shape[1], box[0], width), _bands(channels[0].shape[0], box[1], height)
    rows, columns = down[-1].taken.stop, across[-1].taken.stop
    of_rows, of_columns = _strips(rows, columns, across), _strips(width, height, down)
    wide, narrow, small = _room.arrays((_length(of_rows[0]), columns), (rows, width), (height, width))
    made = np.empty((height, width, len(channels)), np.uint8)
    for number, channel in enumerate(channels):
        for strip in of_rows:
            values = wide[: _length(strip)]
            np.copyto(values, channel[strip, :columns])
            _weigh(values, across, narrow[strip])
        for strip in of_columns:
            _weigh(narrow[:, strip].T, down, small[:, strip].T)
        made[..., number] = small
    return made


class _Room(threading.local):
    """Memory of a thread, filled anew by every picture: to ask the system for it takes longer than to use it."""

    def __init__(self) -> None:
        self._numbers = np.empty(0)

    def arrays(self, *shapes: tuple[int, int]) -> list[np.ndarray]:
        """Arrays float64 beside each other."""
        ends = np.cumsum([0, *(rows * columns for rows, columns in shapes)])
        if self._numbers.size < ends[-1]:
            self._numbers = np.empty(ends[-1])
        parts = (self._numbers[begin:end] for begin, end in pairwise(ends))
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


_room = _Room()


def _weigh(values: np.ndarray, bands: Sequence[_Band], made: np.ndarray) -> None:
    """Fills `made`, float64 `[n, results]`, from `[n, pixels]`, with whole numbers of 0 to 255."""
    for band in bands:
        np.matmul(values[:, band.taken], band.weights, out=made[:, band.made])
    made += 0.5
    np.floor(made, out=made)
    np.clip(made, 0.0, 255.0, out=made)


def _strips(count: int, length: int, bands: Sequence[_Band]) -> list[slice]:
    """Parts of about the same size of so many rows, each of a length."""
    most = min(MULTIPLICATIONS // max(band.weights.size for band in bands), STRIP // length)
    step = -(-count // -(-count // max(1, most)))
    return [slice(begin, min(begin + step, count)) for begin in range(0, count, step)]


def _length(part: slice) -> int:
    return int(part.stop - part.start)


@lru_cache(maxsize=64)
def _bands(count: int, length: float, wanted: int) -> tuple[_Band, ...]:
    """The weights along one axis, where the first `length` of `count` pixels become `wanted`.

    Operations stand in Pillow's order (`precompute_coeffs` and `normalize_coeffs_8bpc` of its Resample.c): another
    one may round a weight otherwise.
    """
    scale = length / wanted
    stretch = max(scale, 1.0)
    middles = (np.arange(wanted) + 0.5) * scale
    first = np.maximum((middles - SUPPORT * stretch + 0.5).astype(np.int64), 0)
    end = np.minimum((middles + SUPPORT * stretch + 0.5).astype(np.int64), count)
    taken = np.arange((end - first).max())
    weights = _cubic((taken + first[:, None] - middles[:, None] + 0.5) * (1.0 / stretch))
    weights[taken >= (end - first)[:, None]] = 0.0
    weights /= weights.cumsum(1)[:, -1:]  # unlike `sum`, one after the other
    weights *= 1 << PRECISION_BITS
    weights = np.trunc(weights + np.copysign(0.5, weights)) / (1 << PRECISION_BITS)
    bands = []
    for made in (slice(begin, min(begin + BAND, wanted)) for begin in range(0, wanted, BAND)):
        pixels = slice(int(first[made].min()), int(end[made].max()))
        matrix = np.zeros((pixels.stop - pixels.start, made.stop - made.start))
        for column, result in enumerate(range(made.start, made.stop)):
            used = end[result] - first[result]
            matrix[first[result] - pixels.start :][:used, column] = weights[result, :used]
        bands.append(_Band(pixels, made, matrix))
    return tuple(bands)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = ((A + 2.0) * x - (A + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * A
    return np.where(x < 1.0, near, np.where(x < SUPPORT, far, 0.0))
