"""How pictures get another size, and halving them while they are far too large."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.text_enum import TextEnum

if TYPE_CHECKING:
    from PIL import Image


# So many pixels of a picture are worked on in one go: what is made of them on the way fits into caches.
STRIP_PIXELS = 1 << 15
# Of a halved one. For more OpenCV would wake threads of its own, which take a core from whoever works on another frame.
HALVED_STRIP_PIXELS = 1 << 16


class Interpolation(TextEnum):
    """How a box of a frame gets another size. Each is the string that manifests and model files hold.

    `bicubic-antialiased` is Pillow's `BICUBIC`: every pixel of the box is weighed by the cubic of a = -0.5, as wide as
    the scale asks for, first along rows, then along columns, each rounded to 8 bits (`images/bicubic.py`).

    `halved-bicubic` makes a large box smaller first, which costs a fraction of the time and differs by less than one
    level of 255 on average. Exactly, in each of the three channels:

    1. *Halve* while the box is at least four times as wide **and** at least four times as high as what it is to
       become: four pixels in a square become their average, `(a + b + c + d + 2) >> 2` of whole numbers. Squares start
       at the box's top left corner, and nothing outside of the box is looked at. Where a side is odd, its last row or
       column is taken twice. The box keeps its true size on the way: 1081 pixels are 540.5 halved ones, of 541.
    2. Resize that box, which then ends in the middle of a pixel where a side was odd, with `bicubic-antialiased`.

    A box of less than four times the size is never halved, and comes out as it does with `bicubic-antialiased`. 1080 x
    1080 to 256 x 256 is halved once, 2160 x 2160 twice, both times to 540 x 540.
    """

    BICUBIC = "bicubic-antialiased"
    HALVED = "halved-bicubic"

    def halvings(self, box: tuple[int, int], size: tuple[int, int]) -> int:
        """How often a box is halved on its way to a size; both are width and height, or both height and width."""
        if self is Interpolation.BICUBIC:
            return 0
        times = 0
        while all(side >= (4 << times) * wanted for side, wanted in zip(box, size, strict=True)):
            times += 1
        return times


def halved(values: np.ndarray, times: int = 1) -> np.ndarray:
    """Half of a picture uint8 `[h, w]` or `[h, w, 3]`, rounded up to whole pixels: step 1 of `halved-bicubic`.

    OpenCV does it where it is installed, otherwise Pillow; both to the bit.

    Args:
        times: how often; 0 is the picture itself.
    """
    for _ in range(times):
        values = _halved_once(values)
    return values


def _halved_once(values: np.ndarray) -> np.ndarray:
    height, width = values.shape[:2]
    cv2 = _opencv()
    if cv2 is None or height < 2 or width < 2:
        return _halved_by_pillow(values)
    rows, columns = height // 2, width // 2
    made = np.empty((height - rows, width - columns, *values.shape[2:]), np.uint8)
    for strip in strips(rows, columns, HALVED_STRIP_PIXELS):
        size, into = (columns, strip.stop - strip.start), made[strip, :columns]
        cv2.resize(values[2 * strip.start : 2 * strip.stop, : 2 * columns], size, into, interpolation=cv2.INTER_AREA)
    if height % 2:
        row = values[-1, : 2 * columns]
        made[-1, :columns] = mean_of(row[0::2], row[1::2])
    if width % 2:
        column = values[: 2 * rows, -1]
        made[:rows, -1] = mean_of(column[0::2], column[1::2])
    if height % 2 and width % 2:
        made[-1, -1] = values[-1, -1]
    return made


def strips(height: int, width: int, pixels: int = STRIP_PIXELS) -> Iterator[slice]:
    """The rows of a picture in parts of about so many pixels, each but the last of an even number of rows."""
    rows = max(2, pixels // max(1, width) // 2 * 2)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def mean_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`(a + b + 1) >> 1` of uint8, without room for the sum."""
    return (a | b) - ((a ^ b) >> 1)


def picture_of(values: np.ndarray) -> Image.Image:
    """A picture uint8 RGB `[h, w, 3]`, which may be a box of a larger one, for Pillow: copied once."""
    from PIL import Image

    height, width = values.shape[:2]
    row = values.strides[0]
    if values.strides[1:] != (3, 1) or row < 3 * width:
        values, row = np.ascontiguousarray(values), 3 * width
    flat = np.lib.stride_tricks.as_strided(values, ((height - 1) * row + 3 * width,), (1,), writeable=False)
    return Image.frombuffer("RGB", (width, height), flat, "raw", "RGB", row, 1)


def _halved_by_pillow(values: np.ndarray) -> np.ndarray:
    from PIL import Image

    picture = picture_of(values) if values.ndim == 3 else Image.fromarray(np.ascontiguousarray(values))
    return np.asarray(picture.reduce(2))


@cache
def _opencv() -> Any:
    """OpenCV, or None where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2
