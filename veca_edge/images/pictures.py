"""Pictures as cameras and decoders give them: RGB, BGR, NV12, I420, YUYV; never RGB in full size unless asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..base.errors import EdgeError, unknown_name
from ..base.text_enum import TextEnum
from .geometry import Box
from .scaling import halved, mean_of


class Layout(TextEnum):
    """What the planes of a picture are, all of uint8, for a height h and a width w.

    `rgb`, `bgr`: one, `[h, w, 3]`. `nv12`: luma `[h, w]`, and chroma u, v of every 2 x 2 pixels
    `[(h + 1) // 2, (w + 1) // 2, 2]`. `i420`: luma, and u and v in planes of their own. `yuyv`: one, `[h, w, 2]`:
    luma, and by turns u and v, of every two pixels beside each other; w is even.
    """

    RGB = "rgb"
    BGR = "bgr"
    NV12 = "nv12"
    I420 = "i420"
    YUYV = "yuyv"


# Weights of red and blue in luma.
MATRICES = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


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
        half = ((height + 1) // 2, (width + 1) // 2)
        wanted = {
            Layout.RGB: [(height, width, 3)],
            Layout.BGR: [(height, width, 3)],
            Layout.NV12: [(height, width), (*half, 2)],
            Layout.I420: [(height, width), half, half],
            Layout.YUYV: [(height, width + width % 2, 2)],
        }[self.layout]
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
        height, width = self.size
        return self.as_rgb(self.channels(Box(0, 0, width, height)))

    def channels(self, box: Box) -> np.ndarray:
        """A box as uint8 `[h, w, 3]` in the picture's own colours: a view, or luma with chroma repeated beside it."""
        top, left, bottom, right = box.top, box.left, box.top + box.height, box.left + box.width
        if self.layout in (Layout.RGB, Layout.BGR):
            return self.planes[0][top:bottom, left:right]
        chroma = self._chroma(box)
        made = np.empty((box.height, box.width, 3), np.uint8)
        made[..., 0] = self._luma(box)
        for channel, plane in enumerate(chroma, 1):
            wide = plane.repeat(2, 1)[:, left % 2 : left % 2 + box.width]
            tall = wide if self.layout == Layout.YUYV else wide.repeat(2, 0)[top % 2 : top % 2 + box.height]
            made[..., channel] = tall
        return made

    def halved_channels(self, box: Box) -> np.ndarray:
        """What halving `channels` of a box gives, to a level; chroma is not repeated in full size for it."""
        if self.layout in (Layout.RGB, Layout.BGR) or box.left % 2 or box.top % 2:
            return halved(self.channels(box))
        luma = halved(self._luma(box))
        made = np.empty((*luma.shape, 3), np.uint8)
        made[..., 0] = luma
        for channel, plane in enumerate(self._chroma(box), 1):
            if self.layout == Layout.YUYV:
                last = plane[-1:] if len(plane) % 2 else plane[:0]
                plane = mean_of(plane[0::2], np.concatenate([plane[1::2], last]))
            made[..., channel] = plane
        return made

    def as_rgb(self, channels: np.ndarray) -> np.ndarray:
        """Pixels uint8 `[h, w, 3]` in this picture's colours, of whatever size, as RGB."""
        if self.layout == Layout.RGB:
            return channels
        if self.layout == Layout.BGR:
            return np.ascontiguousarray(channels[..., ::-1])
        matrix, offset = self._conversion
        made = np.empty(channels.shape, np.uint8)
        for top in range(0, len(channels), 64):  # a strip at a time, for the cache
            strip = channels[top : top + 64].astype(np.float32) @ matrix.T + offset
            made[top : top + 64] = np.clip(strip, 0, 255.49, out=strip)
        return made

    def _luma(self, box: Box) -> np.ndarray:
        luma = self.planes[0][box.top : box.top + box.height, box.left : box.left + box.width]
        return luma[..., 0] if self.layout == Layout.YUYV else luma

    def _chroma(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """u and v of a box, of whole squares (of YUYV: pairs) of pixels."""
        rows = slice(box.top // 2, (box.top + box.height + 1) // 2)
        columns = slice(box.left // 2, (box.left + box.width + 1) // 2)
        if self.layout == Layout.YUYV:
            pairs = self.planes[0][box.top : box.top + box.height, :, 1]
            return pairs[:, 0::2][:, columns], pairs[:, 1::2][:, columns]
        if self.layout == Layout.NV12:
            both = self.planes[1][rows, columns]
            return both[..., 0], both[..., 1]
        return self.planes[1][rows, columns], self.planes[2][rows, columns]

    @cached_property
    def _conversion(self) -> tuple[np.ndarray, np.ndarray]:
        """RGB + 0.5 (what is left is cut off) = matrix x (y, u, v) + offset."""
        red, blue = MATRICES[self.matrix]
        green = 1 - red - blue
        to_red, to_blue = 2 * (1 - red), 2 * (1 - blue)
        matrix = np.array(
            [[1, 0, to_red], [1, -to_blue * blue / green, -to_red * red / green], [1, to_blue, 0]], np.float64
        )
        base = 0
        if not self.is_full_range:
            matrix *= np.array([255 / 219, 255 / 224, 255 / 224])
            base = 16
        offset = 0.5 - matrix @ np.array([base, 128, 128])
        return matrix.astype(np.float32), offset.astype(np.float32)
