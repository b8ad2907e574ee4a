"""Golden inputs and outputs: real frames with what the float32 reference answers, to check a device with.

The frames of an image size are stored once. `dense` is stored at sixteen patches spread over the
image: every patch reaches them through the core tokens, and a bundle with many core counts stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import EdgeError
from ..base.spec import ImageSize
from ..formats.npz import read_npz

FOLDER = "golden"
DENSE_PATCHES = 16
DAMAGED_HINT = "The bundle is damaged; copy or export it again."
# Rank of every output, images first.
RANKS = {"cls": 2, "dense": 3, "logits": 2, "segmentation": 3, "segmentation_logits": 4, "depth": 3, "attention": 3}


@dataclass(frozen=True)
class Golden:
    """Real frames and what the reference makes of them at one core count.

    Attributes:
        frames: uint8 RGB `[n, H, W, 3]`.
        outputs: float32: `cls` `[n, D]`, `dense` `[n, len(patches), D]`, `logits` `[n, K]`, `segmentation_logits`
            `[n, K, h, w]`, `depth` `[n, H', W']`; int32: `segmentation` `[n, H', W']`; as far as they were asked for.
        patches: indices of the patches that `dense` holds.
    """

    core_count: int
    image_size: ImageSize
    frames: np.ndarray
    outputs: Mapping[str, np.ndarray]
    patches: np.ndarray

    def of(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Full outputs of a model, for any of the frames, reduced to what is stored here, ready to be compared.

        Raises:
            EdgeError: an output is not stored here, or is not as wide, or has fewer patches.
        """
        kept = {}
        for name, value in outputs.items():
            if name == "dense" and self.patches.max(initial=-1) < value.shape[1]:
                value = value[:, self.patches]
            stored = self.outputs.get(name)
            if stored is None or value.shape[1:] != stored.shape[1:]:
                raise EdgeError(
                    f"The golden data of {self.core_count} cores at {self.image_size} is not this model's: its "
                    f"'{name}' is {'missing' if stored is None else list(stored.shape)}, the model's "
                    f"{list(value.shape)}.",
                    DAMAGED_HINT,
                )
            kept[name] = value
        return kept


def dtype_of(name: str) -> type[np.generic]:
    """How an output is stored."""
    return np.int32 if name == "segmentation" else np.float32


def golden_patches(count: int) -> np.ndarray:
    """Which of `count` patches are stored: evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, DENSE_PATCHES)).round().astype(np.int64))


def write_golden(
    directory: Path, core_count: int, image_size: ImageSize, frames: np.ndarray, outputs: Mapping[str, np.ndarray]
) -> None:
    """Stores frames and the reference's full outputs for them under `directory/golden`.

    Args:
        directory: the bundle being written.
        frames: uint8 `[n, H, W, 3]`, the same at every core count.
        outputs: by name, as a `Golden` has them, but `dense` of every patch: `[n, N, D]`.
    """
    if frames.dtype != np.uint8 or frames.shape[1:] != (*image_size, 3):
        raise ValueError(f"golden frames are {frames.dtype} {frames.shape}, not uint8 [n, {image_size}, 3]")
    (directory / FOLDER).mkdir(exist_ok=True)
    patches = golden_patches(outputs["dense"].shape[1]) if "dense" in outputs else np.zeros(0, np.int64)
    kept = {name: value[:, patches] if name == "dense" else value for name, value in outputs.items()}
    np.savez_compressed(_frames_path(directory, image_size), image=frames)
    arrays: dict[str, Any] = {name: value.astype(dtype_of(name)) for name, value in kept.items()}
    np.savez(_outputs_path(directory, core_count, image_size), patches=patches, **arrays)


def read_golden(directory: Path, core_count: int, image_size: ImageSize) -> Golden:
    """Raises `EdgeError` when the bundle has none for this core count and size, or they can't be read."""
    frames_path = _frames_path(directory, image_size)
    outputs_path = _outputs_path(directory, core_count, image_size)
    for path in (frames_path, outputs_path):
        if not path.is_file():
            raise EdgeError(
                f"The bundle {directory} has no golden data for {core_count} cores at {image_size}: "
                f"{path.relative_to(directory).as_posix()} is missing.",
                "Export it again.",
            )
    frames, arrays = None, {}
    try:
        frames, arrays = read_npz(frames_path).get("image"), read_npz(outputs_path)
        wrong = _wrong(frames, arrays, image_size)
    except (OSError, ValueError) as error:
        wrong = str(error)
    except EdgeError as error:
        wrong = error.message.rstrip(".")
    if wrong or frames is None:
        raise EdgeError(f"The golden data of {directory} can't be read: {wrong}.", DAMAGED_HINT)
    patches = arrays.pop("patches")
    return Golden(core_count, image_size, frames, arrays, patches.astype(np.int64))


def _wrong(frames: np.ndarray | None, arrays: Mapping[str, np.ndarray], image_size: ImageSize) -> str | None:
    """What keeps these arrays from being golden data, or None."""
    if frames is None or frames.dtype != np.uint8 or frames.shape[1:] != (*image_size, 3) or not len(frames):
        there = "missing" if frames is None else f"{frames.dtype} {list(frames.shape)}"
        return f"the frames are {there}, not uint8 [n, {image_size.height}, {image_size.width}, 3]"
    patches = arrays.get("patches")
    if patches is None or patches.dtype.kind not in "iu" or patches.ndim != 1:
        return "it holds no list of patches"
    if len(patches) and not 0 <= patches.min() <= patches.max() < image_size.height * image_size.width:
        return "it names patches that the image does not have"
    for name, array in arrays.items():
        if name == "patches":
            continue
        if name not in RANKS or array.dtype != dtype_of(name) or array.ndim != RANKS[name] or not array.size:
            return f"its '{name}' is {array.dtype} {list(array.shape)}"
        if len(array) != len(frames) or (name == "dense" and array.shape[1] != len(patches)):
            return f"its '{name}' is {list(array.shape)}, but there are {len(frames)} frames and {len(patches)} patches"
        if not np.isfinite(array).all():
            return f"its '{name}' holds an infinity or a NaN"
    return None


def _frames_path(directory: Path, image_size: ImageSize) -> Path:
    return directory / FOLDER / f"frames_{image_size}.npz"


def _outputs_path(directory: Path, core_count: int, image_size: ImageSize) -> Path:
    return directory / FOLDER / f"cores{core_count}_{image_size}.npz"
