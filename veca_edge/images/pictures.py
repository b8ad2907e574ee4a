"""Pictures as cameras and decoders give them, in RGB or luma and chroma; never RGB in full size unless asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..base.errors import EdgeError, unknown_name
from ..base.text_enum import TextEnum
from .geometry import Box
from .scaling import halved, mean_of, picture_of, strips

if TYPE_CHECKING:
    from PIL import Image


class Layout(TextEnum):
    """What the planes of a picture are, all of uint8, for a height h and a width w.

    `rgb`, `bgr`: one, `[h, w, 3]`. `nv12`: luma `[h, w]`, and chroma u, v of every 2 x 2 pixels
    `[(h + 1) // 2, (w + 1) // 2, 2]`. `i420`: luma, and u and v in planes of their own. `i444`: the same, with u and v
    of every pixel. `yuyv`: one, `[h, w, 2]`: luma, and by turns u and v, of every two pixels beside each other; w is
    even.
    """

    RGB = "rgb"
    BGR = "bgr"
    NV12 = "nv12"
    I420 = "i420"
    I444 = "i444"
    YUYV = "yuyv"


# Weights of red and blue in luma.
MATRICES = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


def plane_shapes(layout: Layout, height: int, width: int) -> list[tuple[int, ...]]:
    """Of a picture's planes: rows, columns, and samples where a plane has several of each pixel."""
    half = ((height + 1) // 2, (width + 1) // 2)
    return {
        Layout.RGB: [(height, width, 3)],
        Layout.BGR: [(height, width, 3)],
        Layout.NV12: [(height, width), (*half, 2)],
        Layout.I420: [(height, width), half, half],
        Layout.I444: [(height, width)] * 3,
        Layout.YUYV: [(height, width + width % 2, 2)],
    }[layout]


def plane_in(content: np.ndarray, shape: tuple[int, ...], stride: int) -> np.ndarray:
    """A plane as it lies in memory, not to be written to; it keeps that memory alive.

    Args:
        content: uint8, from the plane's first byte on.
        shape: as `plane_shapes` has it.
        stride: bytes from one row to the next.
    """
    inner = shape[2:]
    flat = content[: (shape[0] - 1) * stride + math.prod(shape[1:])]
    return np.lib.stride_tricks.as_strided(
        flat, shape, (stride, math.prod(inner), *(1 for _ in inner)), writeable=False
    )


@dataclass(frozen=True)
class Picture:
    """One upright picture in the layout in which a camera or a decoder gave it; the planes are looked at, not copied.

    Attributes:
        layout: a `Layout` or its name.
        planes: uint8 arrays as `Layout` says; rows may have any distance.
        matrix: of luma and chroma, a name of `MATRICES`.
        is_full_range: luma and chroma use 0 to 255, as JPEG has it, instead of 16 to 235 (240).

    Raises:
        EdgeError: an unknown layout or matrix, or planes that are not what the layout says.
    """

    layout: Layout
    planes: tuple[np.ndarray, ...]
    matrix: str = "bt601"
    is_full_range: bool = False

    def __post_init__(self) -> None:
        if self.layout not in list(Layout):
            raise unknown_name("layout of a picture", self.layout, list(Layout))
        object.__setattr__(self, "layout", Layout(self.layout))
        if self.matrix not in MATRICES:
            raise unknown_name("colour matrix", self.matrix, MATRICES)
        first = self.planes[0] if self.planes else np.empty((0, 0), np.uint8)
        height, width = (*first.shape, 0, 0)[:2]
        wanted = plane_shapes(self.layout, height, width)
        shapes = [plane.shape for plane in self.planes]
        if not first.size or shapes != wanted or any(plane.dtype != np.uint8 for plane in self.planes):
            given = ", ".join(f"{plane.dtype} {list(plane.shape)}" for plane in self.planes) or "nothing"
            raise EdgeError(
                f"The picture is {given}, which is not {self.layout}.",
                f"Give uint8 planes of {', '.join(str(list(shape)) for shape in wanted)}, with a pixel at least.",
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.planes[0].shape[0], self.planes[0].shape[1]

    @cached_property
    def rgb(self) -> np.ndarray:
        """All of it: uint8 RGB `[h, w, 3]`; a copy unless it is RGB already."""
        if self.layout == Layout.RGB:
            return self.planes[0]
        height, width = self.size
        made = np.empty((height, width, 3), np.uint8)
        for strip in strips(height, width):
            channels = self.boxed(Box(0, strip.start, width, strip.stop - strip.start))
            if self.layout == Layout.BGR:
                np.stack(channels, -1, out=made[strip])
            else:
                made[strip] = np.asarray(self._converted(_merged(channels)))
        return made

    def boxed(self, box: Box, halvings: int = 0) -> tuple[np.ndarray, ...]:
        """A box of it as three channels uint8 `[h, w]`: RGB, or luma and chroma of which `as_rgb` makes RGB.

        Args:
            halvings: how often it is halved. Chroma is not repeated in full size for that, which differs by a level.
        """
        if self.layout in (Layout.RGB, Layout.BGR):
            values = halved(_cut(self.planes[0], box), halvings)
            return tuple(values[..., channel] for channel in ((2, 1, 0) if self.layout == Layout.BGR else (0, 1, 2)))
        if halvings and (box.left % 2 or box.top % 2):
            return tuple(halved(channel, halvings) for channel in self.boxed(box))
        chroma = (self._per_pixel(plane, box, halvings) for plane in self._chroma(box))
        return halved(self._luma(box), halvings), *chroma

    def as_rgb(self, values: np.ndarray) -> np.ndarray:
        """The channels of `boxed` side by side, uint8 `[h, w, 3]` of whatever size, as RGB."""
        if self.layout in (Layout.RGB, Layout.BGR):
            return values
        made = np.empty(values.shape, np.uint8)
        for strip in strips(*values.shape[:2]):
            made[strip] = np.asarray(self._converted(picture_of(values[strip])))
        return made

    def _converted(self, picture: Image.Image) -> Image.Image:
        """Luma and chroma as RGB."""
        return picture.convert("RGB", self._conversion)

    def _luma(self, box: Box) -> np.ndarray:
        luma = _cut(self.planes[0], box)
        return luma[..., 0] if self.layout == Layout.YUYV else luma

    def _chroma(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """u and v of a box, of whole squares (of YUYV: pairs) of pixels."""
        if self.layout == Layout.I444:
            return _cut(self.planes[1], box), _cut(self.planes[2], box)
        rows = slice(box.top // 2, (box.top + box.height + 1) // 2)
        columns = slice(box.left // 2, (box.left + box.width + 1) // 2)
        if self.layout == Layout.YUYV:
            pairs = self.planes[0][box.top : box.top + box.height, :, 1]
            return pairs[:, 0::2][:, columns], pairs[:, 1::2][:, columns]
        if self.layout == Layout.NV12:
            both = self.planes[1][rows, columns]
            return both[..., 0], both[..., 1]
        return self.planes[1][rows, columns], self.planes[2][rows, columns]

    def _per_pixel(self, chroma: np.ndarray, box: Box, halvings: int) -> np.ndarray:
        """u or v of every pixel of a box that is halved so often."""
        if self.layout == Layout.I444:
            return halved(chroma, halvings)
        if halvings:
            return halved(_halved_rows(chroma) if self.layout == Layout.YUYV else chroma, halvings - 1)
        wide = chroma.repeat(2, 1)[:, box.left % 2 :][:, : box.width]
        return wide if self.layout == Layout.YUYV else wide.repeat(2, 0)[box.top % 2 :][: box.height]

    @cached_property
    def _conversion(self) -> tuple[float, ...]:
        """Three rows of RGB = matrix x (y, u, v, 1)."""
        red, blue = MATRICES[self.matrix]
        green = 1 - red - blue
        to_red, to_blue = 2 * (1 - red), 2 * (1 - blue)
        matrix = np.array([[1, 0, to_red], [1, -to_blue * blue / green, -to_red * red / green], [1, to_blue, 0]])
        base = 0
        if not self.is_full_range:
            matrix *= np.array([255 / 219, 255 / 224, 255 / 224])
            base = 16
        offset = -matrix @ np.array([base, 128, 128])
        return tuple(np.column_stack([matrix, offset]).ravel().tolist())


def _cut(plane: np.ndarray, box: Box) -> np.ndarray:
    return plane[box.top : box.top + box.height, box.left : box.left + box.width]


def _halved_rows(plane: np.ndarray) -> np.ndarray:
    last = plane[-1:] if len(plane) % 2 else plane[:0]
    return mean_of(plane[0::2], np.concatenate([plane[1::2], last]))


def _merged(channels: tuple[np.ndarray, ...]) -> Image.Image:
    """Channels `[h, w]` as one picture."""
    from PIL import Image

    return Image.merge("RGB", [Image.fromarray(np.ascontiguousarray(channel)) for channel in channels])
