"""Results of a model, in the coordinates of the frame that it saw: the way back of `preprocessing`."""

from __future__ import annotations

import math

import numpy as np

from ..base.errors import EdgeError, unknown_name
from .preprocessing import Preprocessing

INTERPOLATIONS = ("nearest", "bilinear")
# What a label map says where the model saw nothing, as masks do.
NO_CLASS = 255


def map_to_frame(
    values: np.ndarray,
    frame: tuple[int, int],
    size: tuple[int, int],
    preprocessing: Preprocessing | None = None,
    interpolation: str | None = None,
) -> np.ndarray:
    """A map of the model's input as a map of the frame: a value for every pixel of the frame.

    Args:
        values: `[h, w]` or `[h, w, c]` over the whole input: labels (uint8 or signed integers), or floats like depth.
        frame: height and width of the frame in pixels, upright.
        size: height and width of the model's input in pixels.
        preprocessing: how the frame became the input (`Model.preprocessing`); None is the default.
        interpolation: `nearest` or `bilinear`; None is `nearest` for integers and `bilinear` for floats. Cells whose
            centre is padding are never looked at.

    Returns:
        `[H, W]` or `[H, W, c]` of the values' type (float16 becomes float32). Where the model did not see the frame:
        255 in uint8, -1 in signed integers, nan in floats.

    Raises:
        EdgeError: an array of another type or shape, or an interpolation that it can't have.
    """
    values = np.asarray(values)
    empty = _nothing(values)
    if values.ndim not in (2, 3) or 0 in values.shape[:2] or min(*frame, *size) < 1 or _is_batch(values.shape, size):
        raise EdgeError(
            f"A map of {list(values.shape)} can't be brought to a frame of {frame[0]}x{frame[1]}.",
            "Give [h, w] or [h, w, c], of one image: without the batch axis.",
        )
    floats = values.dtype.kind == "f"
    kind = interpolation or ("bilinear" if floats else "nearest")
    if kind not in INTERPOLATIONS:
        raise unknown_name("interpolation", kind, INTERPOLATIONS)
    if kind == "bilinear" and not floats:
        raise EdgeError("Labels have no values between them.", "Give interpolation='nearest', or scores as floats.")
    geometry = (preprocessing or Preprocessing()).geometry(frame, size)
    cut, laid = geometry.cut, geometry.laid
    rows = _Axis(frame[0], size[0], (cut.top, cut.height), (laid.top, laid.height), values.shape[0])
    columns = _Axis(frame[1], size[1], (cut.left, cut.width), (laid.left, laid.width), values.shape[1])
    found = np.full((*frame, *values.shape[2:]), empty, np.result_type(values.dtype, np.float32) if floats else None)
    if not floats:
        found = found.astype(values.dtype)
    if kind == "nearest":
        inside = values[:, columns.nearest][rows.nearest]
    else:
        wide = values.astype(found.dtype, copy=False)
        inside = rows.between(columns.between(wide, 1), 0)
    found[rows.first : rows.last, columns.first : columns.last] = inside
    return found


def _is_batch(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether `[B, h, w]`, as a model gives maps, was taken for `[h, w, c]`: the last two have the input's aspect."""

    def has_aspect(height: int, width: int) -> bool:
        return height * size[1] == width * size[0]

    return len(shape) == 3 and not has_aspect(*shape[:2]) and has_aspect(*shape[1:])


def points_to_frame(
    points: np.ndarray, frame: tuple[int, int], size: tuple[int, int], preprocessing: Preprocessing | None = None
) -> np.ndarray:
    """Points of the model's input as points of the frame.

    Args:
        points: `[..., 2]`: x and y in pixels of the input; the centre of the first pixel is at 0.5, 0.5.
        frame, size, preprocessing: as in `map_to_frame`.

    Returns:
        float64 `[..., 2]`: x and y in pixels of the frame. Points on padding lie outside of it.

    Raises:
        EdgeError: the points are not pairs.
    """
    given = np.asarray(points, np.float64)
    if given.ndim < 1 or given.shape[-1] != 2:
        raise EdgeError(f"Points of {list(given.shape)} are not pairs.", "Give x and y along the last axis: [n, 2].")
    geometry = (preprocessing or Preprocessing()).geometry(frame, size)
    cut, laid = geometry.cut, geometry.laid
    scale = np.array([cut.width / laid.width, cut.height / laid.height])
    return (given - (laid.left, laid.top)) * scale + (cut.left, cut.top)


def _nothing(values: np.ndarray) -> int | float:
    """What stands where the model saw nothing."""
    if values.dtype == np.uint8:
        return NO_CLASS
    if values.dtype.kind == "i":
        return -1
    if values.dtype.kind == "f":
        return math.nan
    raise EdgeError(f"A map of {values.dtype} has no value for nothing.", "Give uint8, signed integers or floats.")


class _Axis:
    """One axis of a map and of a frame.

    Attributes:
        first, last: the frame's pixels that the model saw, `first` included.
        nearest: the map's cell of each of them.

    Args:
        frame, size, cells: pixels of the frame and of the input, and cells of the map over the input.
        cut, laid: start and extent of the box of the frame, and of where it lies in the input.
    """

    def __init__(self, frame: int, size: int, cut: tuple[int, int], laid: tuple[int, int], cells: int):
        pixels = np.arange(max(0, cut[0]), min(frame, cut[0] + cut[1]))
        at = laid[0] + (pixels + 0.5 - cut[0]) * laid[1] / cut[1]
        seen = (at >= 0) & (at < size)
        pixels, at = pixels[seen], at[seen] * cells / size
        self.first = int(pixels[0]) if len(pixels) else 0
        self.last = self.first + len(pixels)
        # The cells whose centres show the frame; where none does, the one that shows the most of it.
        start, stop = max(0, laid[0]) * cells / size, min(size, laid[0] + laid[1]) * cells / size
        low, high = math.ceil(start - 0.5), math.floor(stop - 0.5)
        if low > high:
            low = high = min(cells - 1, int((start + stop) / 2))
        self.nearest = np.clip(at.astype(int), low, high)
        place = np.clip(at - 0.5, low, high)
        self._lower = np.minimum(place.astype(int), high)
        self._upper = np.minimum(self._lower + 1, high)
        self._share = place - self._lower

    def between(self, values: np.ndarray, axis: int) -> np.ndarray:
        """The values along an axis, linearly between the centres of cells."""
        shape = [1] * values.ndim
        shape[axis] = -1
        share = self._share.astype(values.dtype).reshape(shape)
        return values.take(self._lower, axis) * (1 - share) + values.take(self._upper, axis) * share
