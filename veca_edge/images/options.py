"""What a user chooses about how a frame becomes the input. The command line is made from these fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..base.options import option
from .geometry import Resize, resize_named

if TYPE_CHECKING:
    from .preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class ResizeOptions:
    """What is kept of a frame, here and in every application.

    Attributes:
        resize: a name of `images.geometry.Resize`.
        crop_ratio: share of the frame's side that `crop` and `short-side` keep, above 0 and at most 1.
        interpolation: a name of `images.scaling.Interpolation`, for what has to be as it was made; left out it is the
            newest.

    Raises:
        EdgeError: an unknown name, or a ratio that can't be.
    """

    resize: str = option(
        Resize.CROP.value, f"What is kept of a frame: {', '.join(Resize)}.", metavar="NAME", shown=Resize.CROP.value
    )
    crop_ratio: float = option(
        1.0,
        "Share of the frame's short side that crop and short-side keep: 0.889 for VECA's published figures.",
        kind=float,
        shown="1",
    )
    interpolation: str = ""

    def __post_init__(self) -> None:
        # Bad values are refused here, before anything is read.
        object.__setattr__(self, "resize", str(self.preprocessing.resize))

    @property
    def preprocessing(self) -> Preprocessing:
        """How a frame becomes the model's input."""
        from .preprocessing import Preprocessing

        return Preprocessing(resize_named(self.resize), self.crop_ratio, interpolation=self.interpolation)
