"""Where a frame goes in a model's input: cut, resized, laid down. Whole pixels, which every runtime can copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..base.errors import unknown_name
from ..base.spec import ImageSize
from ..base.text_enum import TextEnum


class Resize(TextEnum):
    """How a frame of any size becomes the model's input. Each is the string that command lines and manifests hold.

    `crop` and `short-side` keep the same centre of the frame, to a pixel. `crop` cuts it out and resizes it: a camera
    does little work, and nothing outside of the box is looked at. `short-side` resizes the whole frame and cuts then,
    in torchvision's sizes and to its crop (`Resize`, `CenterCrop`): for figures to be compared with published ones.
    `letterbox` shows the whole frame with padding beside it, `stretch` the whole frame out of proportion.
    """

    CROP = "crop"
    SHORT_SIDE = "short-side"
    LETTERBOX = "letterbox"
    STRETCH = "stretch"

    @property
    def takes_ratio(self) -> bool:
        """Whether it cuts something off; the others show the whole frame."""
        return self in (Resize.CROP, Resize.SHORT_SIDE)


def resize_named(name: str) -> Resize:
    """Raises `EdgeError` that lists the known ones."""
    try:
        return Resize(name)
    except ValueError:
        raise unknown_name("resize", name, list(Resize)) from None


class Box(NamedTuple):
    """A box of pixels; `left` and `top` may lie outside of the picture."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class FrameGeometry:
    """How one frame size goes into one input size.

    The box `cut` of the frame is resized to `laid.width` x `laid.height` and laid into the input with its corner at
    `laid.left`, `laid.top`. What sticks out is cut off, what stays empty is padding.

    Attributes:
        frame: height and width of the frame.
        size: height and width of the model's input.
        cut: in pixels of the frame.
        laid: in pixels of the input.
    """

    frame: ImageSize
    size: ImageSize
    cut: Box
    laid: Box


def frame_geometry(
    frame: tuple[int, int], size: tuple[int, int], resize: Resize, crop_ratio: float = 1.0
) -> FrameGeometry:
    """How a frame of one size goes into an input of another.

    Args:
        frame, size: height and width in pixels.
        crop_ratio: share of the frame's side that is kept, by `crop` and `short-side`, on the side that limits.
    """
    there, wanted = ImageSize(*frame), ImageSize(*size)
    whole, everything = Box(0, 0, there.width, there.height), Box(0, 0, wanted.width, wanted.height)
    if resize == Resize.STRETCH:
        return FrameGeometry(there, wanted, whole, everything)
    if resize == Resize.LETTERBOX:
        scale = min(wanted.width / there.width, wanted.height / there.height)
        width, height = max(1, round(there.width * scale)), max(1, round(there.height * scale))
        laid = Box((wanted.width - width) // 2, (wanted.height - height) // 2, width, height)
        return FrameGeometry(there, wanted, whole, laid)
    if resize == Resize.SHORT_SIDE:
        # Rounded as torchvision rounds: the short side is given, the long one is cut to whole pixels.
        is_tall = there.height * wanted.width >= there.width * wanted.height
        if is_tall:
            width = round(wanted.width / crop_ratio)
            height = int(width * there.height / there.width)
        else:
            height = round(wanted.height / crop_ratio)
            width = int(height * there.width / there.height)
        laid = Box(-round((width - wanted.width) / 2), -round((height - wanted.height) / 2), width, height)
        return FrameGeometry(there, wanted, whole, laid)
    scale = min(there.width / wanted.width, there.height / wanted.height) * crop_ratio
    width, height = max(1, round(wanted.width * scale)), max(1, round(wanted.height * scale))
    cut = Box((there.width - width) // 2, (there.height - height) // 2, width, height)
    return FrameGeometry(there, wanted, cut, everything)
