"""One image to one frame: decoded, cropped and resized in the one way that a bundle declares, everywhere.

Calibration, evaluation, `run` and applications all go through `prepare`, so that what is measured here is what an
application gets when it follows `Preprocessing.description`.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import EdgeError, unknown_name
from ..base.files import read_limited
from ..base.spec import ImageSize
from ..model.config import IMAGE_MEAN, IMAGE_STD
from .bicubic import bicubic
from .geometry import FrameGeometry, Resize, frame_geometry, resize_named
from .pictures import Layout, Picture
from .scaling import Interpolation, strips

if TYPE_CHECKING:
    from PIL import Image


# Pixels beside a letterboxed frame: the mean, which normalises to almost nothing.
PADDING = tuple(round(255 * mean) for mean in IMAGE_MEAN)
_CHOSEN = ("resize", "crop_ratio", "interpolation")
# What the manifests of version 0.1 said instead of these and `padding`.
_VERSION_1 = {"crop": "center", "resize": "bicubic-antialiased"}


@dataclass(frozen=True)
class Preprocessing:
    """How a frame of any size becomes a model's input; recorded in every bundle.

    `resize` and `crop_ratio` are chosen, the rest is what this version does; it is written down so that a bundle says
    what it was calibrated with, that bundles made before keep their `interpolation`, and that `from_json` refuses a
    bundle that another version prepared otherwise.

    Attributes:
        resize: what is kept of the frame; a `Resize` or its name.
        crop_ratio: share of the frame's side that `crop` and `short-side` keep, above 0 and at most 1, on the side
            that limits: 0.889 is what VECA is evaluated with, 0.875 what ImageNet models usually are.
        orientation: `exif`: the EXIF orientation is applied.
        color: `rgb`, 8 bits a channel; grey is repeated, CMYK converted, 16 bits are divided by 257,
            embedded colour profiles are not applied.
        background: the RGB colour behind transparent pixels.
        interpolation: an `Interpolation` or its name. Left out it is `halved-bicubic`, for `short-side`
            `bicubic-antialiased`, which is torchvision's.
        padding: the RGB colour beside a letterboxed frame.
        mean, std: of the normalisation `(x / 255 - mean) / std`, per channel.

    Raises:
        EdgeError: an unknown `resize` or `interpolation`, or a `crop_ratio` that can't be.
    """

    resize: Resize = Resize.CROP
    crop_ratio: float = 1.0
    orientation: str = "exif"
    color: str = "rgb"
    background: tuple[int, int, int] = (0, 0, 0)
    interpolation: str = ""
    padding: tuple[int, ...] = PADDING
    mean: tuple[float, float, float] = IMAGE_MEAN
    std: tuple[float, float, float] = IMAGE_STD

    def __post_init__(self) -> None:
        object.__setattr__(self, "resize", resize_named(self.resize))
        newest = Interpolation.BICUBIC if self.resize == Resize.SHORT_SIDE else Interpolation.HALVED
        if self.interpolation not in ("", *Interpolation):
            raise unknown_name("interpolation", self.interpolation, list(Interpolation))
        object.__setattr__(self, "interpolation", Interpolation(self.interpolation or newest))
        ratio = self.crop_ratio
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
            raise EdgeError(
                f"A crop ratio of {ratio} is impossible.", "Give --crop-ratio above 0 and at most 1; 1 cuts least."
            )
        object.__setattr__(self, "crop_ratio", float(ratio))
        if ratio != 1 and not self.resize.takes_ratio:
            raise EdgeError(
                f"--resize {self.resize} shows the whole frame, so a crop ratio of {ratio:g} means nothing.",
                "Leave out --crop-ratio, or give --resize crop or short-side.",
            )

    def geometry(self, frame: tuple[int, int], size: tuple[int, int]) -> FrameGeometry:
        """Where a frame goes in the input; both are height and width."""
        return frame_geometry(frame, size, self.resize, self.crop_ratio)

    @property
    def description(self) -> str:
        """One paragraph for a person who has to do the same on a device."""
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return (
            "Apply the EXIF orientation. Convert to 8-bit RGB; transparent pixels are composited on black. "
            f"{self._words} {self._halving}"
            f"Normalise as (x / 255 - mean) / std with mean ({mean}) and std ({std}); a model with 'image' "
            "or 'planar' input does this last step itself."
        )

    @property
    def _words(self) -> str:
        part = "" if self.crop_ratio == 1 else f"{self.crop_ratio:g} of "
        if self.resize == Resize.CROP:
            same = " (this keeps what resizing to cover and cropping would keep)" if self.crop_ratio == 1 else ""
            return (
                f"Crop {part}the largest centred box that has the aspect ratio of the model's input, and resize the "
                f"box to it with antialiased bicubic interpolation{same}."
            )
        if self.resize == Resize.SHORT_SIDE:
            larger = "the model's input" if self.crop_ratio == 1 else f"the model's input over {self.crop_ratio:g}"
            return (
                f"Resize the whole picture with antialiased bicubic interpolation so that it just covers {larger}, "
                "and crop the centre, as torchvision's Resize and CenterCrop do."
            )
        if self.resize == Resize.LETTERBOX:
            return (
                "Resize the whole picture with antialiased bicubic interpolation so that it just fits into the model's "
                f"input, and centre it there on the colour {self.padding}."
            )
        return (
            "Resize the whole picture to the model's input with antialiased bicubic interpolation, whatever its "
            "aspect ratio."
        )

    @property
    def _halving(self) -> str:
        if self.interpolation == Interpolation.BICUBIC:
            return ""
        return (
            "Before that, while what is resized is at least four times as wide and four times as high as it is to "
            "become, halve it: every 2 x 2 pixels become (a + b + c + d + 2) >> 2 in each channel. "
        )

    @property
    def metadata(self) -> dict[str, str]:
        """What a model file says of it, as text."""
        facts = {"resize": str(self.resize), "interpolation": str(self.interpolation)}
        if self.resize.takes_ratio:
            facts["crop_ratio"] = str(self.crop_ratio)
        if self.resize == Resize.LETTERBOX:
            facts["padding"] = " ".join(map(str, self.padding))
        return facts | {"mean": " ".join(map(str, self.mean)), "std": " ".join(map(str, self.std))}

    @classmethod
    def from_metadata(cls, facts: Mapping[str, str]) -> Preprocessing:
        """Reads what `metadata` says; without a word of it, what version 0.1 did. Raises as the constructor does."""
        try:
            ratio = float(facts.get("crop_ratio", "1"))
        except ValueError:
            raise EdgeError(f"A crop ratio of '{facts['crop_ratio']}' is no number.", "Export again.") from None
        interpolation = facts.get("interpolation", str(Interpolation.BICUBIC))
        return cls(resize_named(facts.get("resize", Resize.CROP)), ratio, interpolation=interpolation)

    def to_json(self) -> dict[str, Any]:
        values = asdict(self) | {"resize": str(self.resize), "interpolation": str(self.interpolation)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Reads what `to_json` wrote, or version 0.1, which had one way; refuses what this version does not do."""
        read: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
        if all(read.get(key) == said for key, said in _VERSION_1.items()):
            read = {key: v for key, v in read.items() if key not in _VERSION_1}
            first = cls(interpolation=Interpolation.BICUBIC)
            read |= {key: getattr(first, key) for key in (*_CHOSEN, "padding")}
        chosen: dict[str, Any] = {key: read[key] for key in _CHOSEN if key in read}
        if chosen.get("interpolation") not in list(Interpolation):
            chosen.pop("interpolation", None)  # named below
        ours = asdict(cls(**chosen)) if "resize" in chosen and "crop_ratio" in chosen else asdict(cls())
        other = sorted(key for key in ours.keys() | read.keys() if ours.get(key) != read.get(key))
        if other:
            said = ", ".join(f"{key} = {read.get(key)}" for key in other)
            raise EdgeError(
                f"These images were prepared in a way that this version does not know: {said}.",
                "Export again with this version.",
            )
        return cls(**chosen)


def prepare(
    image: str | Path | np.ndarray | Picture,
    size: ImageSize | int | tuple[int, int],
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """One image as a model takes it, in exactly the way of calibration; `Model.prepare` knows a bundle's own.

    Args:
        image: an image file, or an upright picture: uint8 RGB `[h, w, 3]`, or a `Picture` in a camera's layout, which
            comes out to a level or two as its RGB would.
        size: height and width in pixels; one number is a square.
        preprocessing: how; None is what `export` does unless it is asked for another.

    Returns:
        A frame: uint8 RGB `[H, W, 3]`. A model with `image` input takes it as it is; `as_input` makes of it what
        one with `tensor` input takes.

    Raises:
        EdgeError: the file can't be read as an image, or the array is not uint8 `[h, w, 3]`; says why.
    """
    wanted = ImageSize(size, size) if isinstance(size, int) else ImageSize(*size)
    how = preprocessing or Preprocessing()
    if isinstance(image, (str, Path)):
        return resized(load_pixels(image), wanted, how)
    if isinstance(image, Picture):
        return resized(image, wanted, how)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise EdgeError(f"The picture is {given}.", "Give a file, or an array: uint8 RGB [h, w, 3].")
    if not image.size:
        raise EdgeError("The picture has no pixels.", "Give a file, or an array: uint8 RGB [h, w, 3].")
    return resized(image, wanted, how)


def load_pixels(path: str | Path) -> np.ndarray:
    """One image in its own size, upright: uint8 RGB `[h, w, 3]`, or an `EdgeError` that says why not."""
    try:
        return decoded(read_limited(path, MAX_FILE_BYTES))
    except UNREADABLE as error:
        raise EdgeError(
            f"The image can't be read: {path} ({reason(error)}).", "Give another file, or mend this one."
        ) from error


def resized(pixels: np.ndarray | Picture, size: ImageSize, preprocessing: Preprocessing) -> np.ndarray:
    """A picture uint8 RGB `[h, w, 3]`, or one in another layout, in the model's size: uint8 RGB `[H, W, 3]`.

    Colours are converted last, where there are the fewest pixels.

    Raises:
        EdgeError: `short-side` would make a huge picture of a long one on its way.
    """
    picture = pixels if isinstance(pixels, Picture) else Picture(Layout.RGB, (pixels,))
    geometry = preprocessing.geometry(picture.size, size)
    cut, laid = geometry.cut, geometry.laid
    if laid.width * laid.height > MAX_PIXELS:
        raise EdgeError(
            f"A picture of {cut.width} x {cut.height} pixels would have {laid.width} x {laid.height} before it is "
            f"cropped; at most {MAX_PIXELS:,} are made.",
            "--resize crop keeps the same of it, and crops first.",
        )
    times = Interpolation(preprocessing.interpolation).halvings(cut[2:], laid[2:])
    box = (cut.width / 2**times, cut.height / 2**times)
    small = picture.as_rgb(bicubic(picture.boxed(cut, times), (laid.width, laid.height), box))
    if (laid.height, laid.width) == tuple(size):
        return small
    frame = np.empty((*size, 3), np.uint8)
    frame[:] = preprocessing.padding
    top, left = max(0, laid.top), max(0, laid.left)
    seen = small[top - laid.top : size.height - laid.top, left - laid.left : size.width - laid.left]
    frame[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
    return frame


def normalised(frames: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Frames uint8 `[n, H, W, 3]` to float32 `[n, 3, H, W]`: (x / 255 - mean) / std.

    Args:
        out: an array to fill and return instead of a new one.
    """
    count, height, width, channels = frames.shape
    made = np.empty((count, channels, height, width), np.float32) if out is None else out
    np.copyto(made, frames.transpose(0, 3, 1, 2))
    made /= np.float32(255.0)
    made -= np.array(IMAGE_MEAN, np.float32)[:, None, None]
    made /= np.array(IMAGE_STD, np.float32)[:, None, None]
    return made


def as_input(frames: np.ndarray, form: str, out: np.ndarray | None = None) -> np.ndarray:
    """Frames uint8 RGB `[n, H, W, 3]` in the form that a model takes, one of `base.spec.INPUT_FORMS`.

    Args:
        out: an array to fill and return instead of a new one; unused for `image`, which the frames are already.
    """
    if form == "image":
        return frames
    if form == "tensor":
        return normalised(frames, out)
    made = np.empty((len(frames), 3, *frames.shape[1:3]), np.float32) if out is None else out
    np.copyto(made, frames.transpose(0, 3, 1, 2))
    return made


# --------------------------------------------------------------------------------------- decoding

# The kinds that `folder.SUFFIXES` names, by Pillow's words: the others of Pillow are never asked. One runs a program.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")

# What an image may be, looked at in its header before anything is decoded. A few hundred bytes can claim any size.
MAX_FILE_BYTES = 512 << 20
MAX_PIXELS = 64_000_000  # Pillow holds 4 bytes of each at most: 256 MB
MAX_SIDE = 32_768
MAX_ASPECT = 16_384

# What Pillow's decoders are known to raise for damaged files, and what is raised here for kinds that are refused.
UNREADABLE = (
    EdgeError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)
STRIP_PIXELS = 1 << 20


def decoded(content: bytes) -> np.ndarray:
    """An image file's picture, upright, in its own size: uint8 RGB `[h, w, 3]`.

    Raises:
        Exception: one of `UNREADABLE`; `reason` says it in words.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that others wrote
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                _check_size(image)
                ImageOps.exif_transpose(image, in_place=True)
                return _rgb(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has more than the {MAX_PIXELS:,} pixels that are decoded") from error


def _check_size(image: Image.Image) -> None:
    """Raises `ValueError` for an image that is not decoded: `image` knows its size and mode, and no pixel yet."""
    width, height = image.size
    short, long = sorted((width, height))
    if short < 1:
        raise ValueError(f"it has {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels; at most {MAX_PIXELS:,} are decoded")
    if long > MAX_SIDE:
        raise ValueError(f"it has {width} x {height} pixels; a side has at most {MAX_SIDE:,}")
    if long > MAX_ASPECT * short:
        raise ValueError(f"it has {width} x {height} pixels; a side is at most {MAX_ASPECT:,} times the other")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined white")


def _rgb(image: Image.Image) -> np.ndarray:
    """Pixels as uint8 RGB `[h, w, 3]`, a strip at a time: the ways there take several times the memory of a picture."""
    image.load()
    made = np.empty((image.height, image.width, 3), np.uint8)
    for strip in strips(image.height, image.width, STRIP_PIXELS):
        made[strip] = np.asarray(_strip_rgb(image.crop((0, strip.start, image.width, strip.stop))))
    return made


def _strip_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit integer pixels have no defined white")
        grey = np.round(values / 257.0).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA") if image.mode != "La" else image.convert("LA").convert("RGBA")
        behind = Image.new("RGBA", image.size, (*Preprocessing().background, 255))
        return Image.alpha_composite(behind, image).convert("RGB")
    return image.convert("RGB")


def reason(error: BaseException) -> str:
    """Why an image can't be read, in one line."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"not an image of a known kind: {', '.join(FORMATS)}"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, EdgeError):
        return error.message.rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
