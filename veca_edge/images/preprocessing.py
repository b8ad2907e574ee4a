"""Images from disk to frames: found, sampled, decoded and cropped in one way, everywhere.

Calibration, evaluation and `run` all crop and resize in one place, so that what is measured here is what an
application gets when it follows `Preprocessing.description`.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import EdgeError
from ..base.progress import Progress, silent
from ..base.spec import ImageSize
from ..model.config import IMAGE_MEAN, IMAGE_STD

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MIN_IMAGES = 8


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


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """Prepared images.

    Attributes:
        frames: uint8 RGB `[n, H, W, 3]`.
        paths: the files they came from.
        digests: sha256 of each file.
        labels: int64 `[n]` class indices, or None where folders name no classes.
        labels_note: why there are no labels although classes were asked for, else None.
        skipped: files that did not decode.
    """

    frames: np.ndarray
    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    labels: np.ndarray | None = None
    labels_note: str | None = None
    skipped: tuple[Skipped, ...] = ()


def find_images(folder: str | Path) -> list[Path]:
    """All images below a folder, links followed, hidden names left out, sorted by relative path.

    Raises:
        EdgeError: the folder does not exist or holds no file with a known suffix.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EdgeError(
            f"{folder} is not a directory." if folder.exists() else f"There is no directory {folder}.",
            "Give a directory of images; it is searched recursively.",
        )
    found, visited = [], set()
    for where, directories, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        directories[:] = [] if real in visited else [d for d in directories if not d.startswith(".")]
        if real not in visited:
            found += [
                Path(where, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")
            ]
        visited.add(real)
    if not found:
        raise EdgeError(f"There are no images in {folder}.", f"Known image files: {', '.join(SUFFIXES)}.")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def sample(paths: Sequence[Path], count: int, seed: int) -> list[Path]:
    """`count` of the paths (all where there are fewer), in their own order; the same for the same seed."""
    if count < 1:
        raise EdgeError(f"{count} images were asked for.", "Give a count of 1 or more.")
    if count >= len(paths):
        return list(paths)
    return [paths[i] for i in sorted(random.Random(seed).sample(range(len(paths)), count))]


def load_images(
    paths: Sequence[Path],
    size: ImageSize,
    *,
    classes: Sequence[str] | None = None,
    minimum: int = MIN_IMAGES,
    progress: Progress = silent,
) -> ImageSet:
    """Decodes images to frames of one size.

    Args:
        classes: class names; where every image lies in a folder that bears one of them, the set has labels.
        minimum: how many images must decode.

    Raises:
        EdgeError: fewer than `minimum` decode; the message names those that did not.
    """
    frames, kept, digests, skipped = [], [], [], []
    for i, path in enumerate(paths):
        try:
            content = path.read_bytes()
            frames.append(_cropped(_decoded(content), size))
        except _UNREADABLE as error:
            skipped.append(Skipped(path, _reason(error)))
        else:
            kept.append(path)
            digests.append(hashlib.sha256(content).hexdigest())
        progress("reading images", i + 1, len(paths))
    if len(kept) < minimum:
        raise EdgeError(_too_few(len(kept), minimum, skipped), "Give more images, or mend or remove the ones named.")
    labels, note = class_labels(kept, classes) if classes else (None, None)
    array = np.stack(frames) if frames else np.zeros((0, *size, 3), np.uint8)
    return ImageSet(array, tuple(kept), tuple(digests), labels, note, tuple(skipped))


def load_frame(path: str | Path, size: ImageSize) -> np.ndarray:
    """One image as a uint8 RGB frame `[H, W, 3]`, or an `EdgeError` that says why not."""
    return load_images([Path(path)], size, minimum=1).frames[0]


def load_pixels(path: str | Path) -> np.ndarray:
    """One image in its own size, upright: uint8 RGB `[h, w, 3]`, or an `EdgeError` that says why not."""
    try:
        return np.asarray(_decoded(Path(path).read_bytes()))
    except _UNREADABLE as error:
        raise EdgeError(f"The image can't be read: {path} ({_reason(error)}).", "Mend or remove it.") from error


def class_labels(paths: Sequence[Path], classes: Sequence[str]) -> tuple[np.ndarray | None, str | None]:
    """The class index of every image by the name of its folder, or None and the reason."""
    index = {_plain(name): i for i, name in enumerate(classes)}
    folders = sorted({path.parent.name for path in paths})
    unknown = [name for name in folders if _plain(name) not in index]
    if unknown:
        which = "No folder name matches a class" if len(unknown) == len(folders) else "Some folder names match no class"
        return None, f"{which} ({_listed(unknown)}), so there is no top-1; the classes are {_listed(classes)}."
    return np.array([index[_plain(path.parent.name)] for path in paths], np.int64), None


def frame_from(image: Image.Image, size: ImageSize) -> np.ndarray:
    """A decoded image as a uint8 RGB frame `[H, W, 3]`; see `Preprocessing`."""
    return _cropped(_upright(image), size)


def frame_from_pixels(pixels: np.ndarray, size: ImageSize) -> np.ndarray:
    """The same from an upright picture of any size: uint8 RGB `[h, w, 3]`, as a camera or `load_pixels` gives it."""
    from PIL import Image

    return _cropped(Image.fromarray(pixels), size)


def _cropped(image: Image.Image, size: ImageSize) -> np.ndarray:
    from PIL import Image

    # Crop, then resize: the other way round a very long image would become huge on its way.
    scale = min(image.width / size.width, image.height / size.height)
    width, height = max(1, round(size.width * scale)), max(1, round(size.height * scale))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    image = image.crop((left, top, left + width, top + height))
    return np.asarray(image.resize((size.width, size.height), Image.Resampling.BICUBIC))


def normalised(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 `[n, H, W, 3]` to float32 `[n, 3, H, W]`: (x / 255 - mean) / std."""
    mean, std = np.float32(IMAGE_MEAN), np.float32(IMAGE_STD)
    return np.ascontiguousarray(((frames.astype(np.float32) / 255.0 - mean) / std).transpose(0, 3, 1, 2))


# --------------------------------------------------------------------------------------- decoding

# What Pillow's decoders are known to raise for damaged files, and what `_rgb` raises for kinds it refuses.
_UNREADABLE = (
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


def _decoded(content: bytes) -> Image.Image:
    """Upright, RGB, in its own size."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # A photograph of more than 89 megapixels is no attack; Pillow still refuses twice that.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                return _upright(image)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    return _rgb(ImageOps.exif_transpose(image))


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit integer pixels have no defined white")
        grey = np.round(values / 257.0).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined white")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA") if image.mode != "La" else image.convert("LA").convert("RGBA")
        behind = Image.new("RGBA", image.size, (*Preprocessing().background, 255))
        return Image.alpha_composite(behind, image).convert("RGB")
    return image.convert("RGB")


def _reason(error: BaseException) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _too_few(kept: int, minimum: int, skipped: Sequence[Skipped]) -> str:
    wrong = _listed([f"{s.path} ({s.reason})" for s in skipped])
    if kept == 0 and minimum == 1 and skipped:
        return f"The image can't be read: {wrong}."
    message = f"Only {kept} usable images, but at least {minimum} are needed."
    return f"{message} {len(skipped)} could not be read: {wrong}." if skipped else message


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ").strip()


def _listed(items: Sequence[str], most: int = 8) -> str:
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
