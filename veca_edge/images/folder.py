"""Folders of images: found, sampled, prepared as one set, and labelled by the names of their folders."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.errors import EdgeError
from ..base.files import read_limited
from ..base.progress import Progress, silent
from ..base.spec import ImageSize
from .preprocessing import MAX_FILE_BYTES, UNREADABLE, Preprocessing, decoded, reason, resized

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MIN_IMAGES = 8


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
    preprocessing: Preprocessing | None = None,
    progress: Progress = silent,
) -> ImageSet:
    """Decodes images to frames of one size.

    Args:
        classes: class names; where every image lies in a folder that bears one of them, the set has labels.
        minimum: how many images must decode.
        preprocessing: how they become frames; None is the default.

    Raises:
        EdgeError: fewer than `minimum` decode; the message names those that did not.
    """
    how = preprocessing or Preprocessing()
    frames, kept, digests, skipped = [], [], [], []
    for i, path in enumerate(paths):
        try:
            content = read_limited(path, MAX_FILE_BYTES)
            frames.append(resized(decoded(content), size, how))
        except UNREADABLE as error:
            skipped.append(Skipped(path, reason(error)))
        else:
            kept.append(path)
            digests.append(hashlib.sha256(content).hexdigest())
        progress("reading images", i + 1, len(paths))
    if len(kept) < minimum:
        raise EdgeError(_too_few(len(kept), minimum, skipped), "Give more images, or mend or remove the ones named.")
    labels, note = class_labels(kept, classes) if classes else (None, None)
    array = np.stack(frames) if frames else np.zeros((0, *size, 3), np.uint8)
    return ImageSet(array, tuple(kept), tuple(digests), labels, note, tuple(skipped))


def class_labels(paths: Sequence[Path], classes: Sequence[str]) -> tuple[np.ndarray | None, str | None]:
    """The class index of every image by the name of its folder, or None and the reason."""
    index = {_plain(name): i for i, name in enumerate(classes)}
    folders = sorted({path.parent.name for path in paths})
    unknown = [name for name in folders if _plain(name) not in index]
    if unknown:
        which = "No folder name matches a class" if len(unknown) == len(folders) else "Some folder names match no class"
        return None, f"{which} ({_listed(unknown)}), so there is no top-1; the classes are {_listed(classes)}."
    return np.array([index[_plain(path.parent.name)] for path in paths], np.int64), None


def _too_few(kept: int, minimum: int, skipped: Sequence[Skipped]) -> str:
    wrong = _listed([f"{s.path} ({s.reason})" for s in skipped])
    message = f"Only {kept} usable images, but at least {minimum} are needed."
    return f"{message} {len(skipped)} could not be read: {wrong}." if skipped else message


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ").strip()


def _listed(items: Sequence[str], most: int = 8) -> str:
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
