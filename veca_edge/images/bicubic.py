"""Antialiased bicubic resizing, to the bit as Pillow does it, in products of matrices.

Pillow weighs pixels by whole multiples of 2^-22, first along rows, then along columns, and rounds each to 8 bits. In
float64 such sums are exact in whatever order they are taken, so every machine's BLAS gives the same, in less time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

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
    if channels[0].shape == (height, width) and box == size:
        return np.stack(channels, -1)
    across, down = _bands(channels[0].shape[1], box[0], width), _bands(channels[0].shape[0], box[1], height)
    narrow = np.empty((down[-1].taken.stop, width), np.uint8)
    made = np.empty((height, width, len(channels)), np.uint8)
    for number, channel in enumerate(channels):
        _weigh(channel[: len(narrow)], across, narrow)
        _weigh(narrow.T, down, made[..., number].T)
    return made


def _weigh(values: np.ndarray, bands: Sequence[_Band], made: np.ndarray) -> None:
    """Fills `made`, uint8 `[n, results]`, from uint8 `[n, pixels]`."""
    (count, results), pixels = made.shape, bands[-1].taken.stop
    most = min(MULTIPLICATIONS // max(band.weights.size for band in bands), STRIP // max(pixels, results))
    rows = -(-count // -(-count // max(1, most)))  # strips of about the same size
    order = "F" if values.strides[0] < values.strides[1] else "C"  # as the pixels lie
    read, written = _room.arrays((rows, pixels), (rows, results), order)
    for begin in range(0, count, rows):
        strip = slice(begin, min(begin + rows, count))
        taken, sums = read[: strip.stop - begin], written[: strip.stop - begin]
        np.copyto(taken, values[strip, :pixels])
        for band in bands:
            np.matmul(taken[:, band.taken], band.weights, out=sums[:, band.made])
        sums += 0.5
        np.clip(sums, 0.0, 255.0, out=sums)
        np.copyto(made[strip], sums, casting="unsafe")  # cuts what is behind the point


class _Room(threading.local):
    """Memory of a thread, filled anew by every picture: to ask the system for it takes longer than to use it."""

    def __init__(self) -> None:
        self._numbers = np.empty(0)

    def arrays(self, first: tuple[int, int], second: tuple[int, int], order: Literal["C", "F"]) -> list[np.ndarray]:
        """Two arrays float64, with rows (C) or columns (F) in one piece."""
        sizes = [first[0] * first[1], second[0] * second[1]]
        if self._numbers.size < sum(sizes):
            self._numbers = np.empty(sum(sizes))
        parts = np.split(self._numbers[: sum(sizes)], sizes[:1])
        return [part.reshape(shape, order=order) for part, shape in zip(parts, (first, second), strict=True)]


_room = _Room()


@lru_cache(maxsize=16)
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
    taps = np.arange((end - first).max())
    weights = _cubic((taps + first[:, None] - middles[:, None] + 0.5) * (1.0 / stretch))
    weights[taps >= (end - first)[:, None]] = 0.0
    weights /= weights.cumsum(1)[:, -1:]  # unlike `sum`, one after the other
    weights *= 1 << PRECISION_BITS
    weights = np.trunc(weights + np.copysign(0.5, weights)) / (1 << PRECISION_BITS)
    results = np.arange(wanted)[:, None]
    pixels = taps + first[:, None] - first[results // BAND * BAND]
    matrices = np.zeros((-(-wanted // BAND), pixels.max() + 1, BAND))
    matrices[results // BAND, pixels, results % BAND] = weights
    bands = []
    for matrix, begin in zip(matrices, range(0, wanted, BAND), strict=True):
        made = slice(begin, min(begin + BAND, wanted))
        taken = slice(int(first[begin]), int(end[made.stop - 1]))
        bands.append(_Band(taken, made, np.ascontiguousarray(matrix[: taken.stop - taken.start, : made.stop - begin])))
    return tuple(bands)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = ((A + 2.0) * x - (A + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * A
    return np.where(x < 1.0, near, np.where(x < SUPPORT, far, 0.0))
