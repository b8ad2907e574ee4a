"""One image to one frame: decoded, cropped and resized in one way, everywhere.

Calibration, evaluation, `run` and applications all go through `prepare`, so that what is measured here is what an
application gets when it follows `Preprocessing.description`.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import EdgeError
from ..base.files import read_limited
from ..base.spec import ImageSize
from ..model.config import IMAGE_MEAN, IMAGE_STD

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes a model's input: what this version does, recorded in every bundle.

    There is one way, so the fields are constants; they are written down so that a bundle says what it
    was calibrated with, and so that `from_json` refuses a bundle that another version prepared otherwise.

    Attributes:
        orientation: `exif`: the EXIF orientation is applied.
        color: `rgb`, 8 bits a channel; grey is repeated, CMYK converted, 16 bits are divided by 257,
            embedded colour profiles are not applied.
        background: the RGB colour behind transparent pixels.
        crop: `center`: the largest centred box with the aspect ratio of the image size.
        resize: `bicubic-antialiased`: how the box is brought to the image size.
        mean, std: of the normalisation `(x / 255 - mean) / std`, per channel.
    """

    orientation: str = "exif"
    color: str = "rgb"
    background: tuple[int, int, int] = (0, 0, 0)
    crop: str = "center"
    resize: str = "bicubic-antialiased"
    mean: tuple[float, float, float] = IMAGE_MEAN
    std: tuple[float, float, float] = IMAGE_STD

    @property
    def description(self) -> str:
        """One paragraph for a person who has to do the same on a device."""
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return (
            "Apply the EXIF orientation. Convert to 8-bit RGB; transparent pixels are composited on black. "
            "Crop the largest centred box that has the aspect ratio of the model's input, and resize the box to it "
            "with antialiased bicubic interpolation (this keeps what resizing to cover and cropping would keep). "
            f"Normalise as (x / 255 - mean) / std with mean ({mean}) and std ({std}); a model with 'image' "
            "input does this last step itself."
        )

    def to_json(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Reads what `to_json` wrote; refuses what this version does not do."""
        read = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
        ours = asdict(cls())
        other = sorted(key for key in ours.keys() | read.keys() if ours.get(key) != read.get(key))
        if other:
            said = ", ".join(f"{key} = {read.get(key)}" for key in other)
            raise EdgeError(
                f"These images were prepared in a way that this version does not know: {said}.",
                "Export again with this version.",
            )
        return cls()


def prepare(image: str | Path | np.ndarray, size: ImageSize | int | tuple[int, int]) -> np.ndarray:
    """One image as a model takes it, in exactly the way of calibration; see `Preprocessing`.

    Args:
        image: an image file, or an upright picture: uint8 RGB `[h, w, 3]`.
        size: height and width in pixels; one number is a square.

    Returns:
        A frame: uint8 RGB `[H, W, 3]`. A model with `image` input takes it as it is; `normalised` makes of it what
        one with `tensor` input takes.

    Raises:
        EdgeError: the file can't be read as an image, or the array is not uint8 `[h, w, 3]`; says why.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if isinstance(image, (str, Path)):
        return cropped(load_pixels(image), ImageSize(height, width))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise EdgeError(f"The picture is {given}.", "Give a file, or an array: uint8 RGB [h, w, 3].")
    if not image.size:
        raise EdgeError("The picture has no pixels.", "Give a file, or an array: uint8 RGB [h, w, 3].")
    return cropped(image, ImageSize(height, width))


def load_pixels(path: str | Path) -> np.ndarray:
    """One image in its own size, upright: uint8 RGB `[h, w, 3]`, or an `EdgeError` that says why not."""
    try:
        return decoded(read_limited(path, MAX_FILE_BYTES))
    except UNREADABLE as error:
        raise EdgeError(f"The image can't be read: {path} ({reason(error)}).", "Mend or remove it.") from error


def cropped(pixels: np.ndarray, size: ImageSize) -> np.ndarray:
    """The largest centred box of a picture `[h, w, 3]` with the aspect ratio of `size`, resized to it."""
    from PIL import Image

    # Crop, then resize: the other way round a very long image would become huge on its way.
    left, top, width, height = crop_box(pixels.shape[:2], size)
    box = Image.fromarray(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
    return np.asarray(box.resize((size.width, size.height), Image.Resampling.BICUBIC))


def crop_box(shape: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of the box of a picture of `shape` (rows, columns) that becomes a frame of `size`."""
    rows, columns = shape
    scale = min(columns / size[1], rows / size[0])
    width, height = max(1, round(size[1] * scale)), max(1, round(size[0] * scale))
    return (columns - width) // 2, (rows - height) // 2, width, height


def normalised(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 `[n, H, W, 3]` to float32 `[n, 3, H, W]`: (x / 255 - mean) / std."""
    mean, std = np.array(IMAGE_MEAN, np.float32), np.array(IMAGE_STD, np.float32)
    return np.ascontiguousarray(((frames.astype(np.float32) / 255.0 - mean) / std).transpose(0, 3, 1, 2))


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
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = image.crop((0, top, image.width, bottom))
        made[top:bottom] = np.asarray(_strip_rgb(strip))
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
