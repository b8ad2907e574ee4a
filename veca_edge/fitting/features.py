"""Features of many images at many core counts, computed once and kept on disk.

A cache is a folder with an array per core count (float16, memory-mapped) and one of targets, filled image by image.
What it was made of is written beside it, so that an interrupted run goes on and another data set starts anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import EdgeError
from ..base.files import write_atomically
from ..base.json_files import read_json
from ..base.progress import Progress, silent
from ..base.spec import ImageSize
from ..base.tasks import Task
from ..images.labelled import LabelledImage, target_of
from ..images.preprocessing import Preprocessing, load_pixels, normalised, resized
from ..model.checkpoint import Checkpoint
from ..model.tensor_files import listed

STATE = "state.json"
BATCH = 16


@dataclass(frozen=True)
class Wanted:
    """What a cache holds: features of `images` at `core_counts`, for a task.

    Attributes:
        map_size: rows and columns of masks and depths.
        preprocessing: how images become frames.
    """

    task: Task
    images: tuple[LabelledImage, ...]
    size: ImageSize
    map_size: tuple[int, int]
    core_counts: tuple[int, ...]
    preprocessing: Preprocessing = Preprocessing()

    def key(self, checkpoint_digest: str) -> str:
        """Changes whenever the features or targets could."""
        facts: list[Any] = [checkpoint_digest, str(self.task), list(self.size), list(self.map_size), self.core_counts]
        facts.append(self.preprocessing.to_json())
        for item in self.images:
            for path in (item.image, item.target):
                facts.append([str(path), *_stamp(path)] if isinstance(path, Path) else path)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class Features:
    """A complete cache.

    Attributes:
        by_count: float16 by core count: `[n, 2, D]` (cls, and the mean of the patches), or `[n, N, D]` patches.
        targets: int64 `[n]` classes, int16 `[n, H', W']` masks, or float32 `[n, H', W']` metres.
        grid: rows and columns of the patches.
    """

    by_count: dict[int, np.ndarray]
    targets: np.ndarray
    grid: tuple[int, int]


def cached_features(checkpoint: Checkpoint, wanted: Wanted, directory: Path, progress: Progress = silent) -> Features:
    """Computes what the cache at `directory` lacks, a batch at a time, and opens it.

    Memory does not grow with the number of images; disk does, and is checked before anything is computed.

    Raises:
        EdgeError: an image, mask or depth can't be read, an image's features are not finite, or the disk has too
            little room.
    """
    config, n = checkpoint.config, len(wanted.images)
    grid = config.grid(*wanted.size)
    rows = 2 if wanted.task == Task.CLASSIFY else grid[0] * grid[1]
    key, shape = wanted.key(checkpoint.digest), (n, rows, config.output_dim)
    done = _done(directory, key)
    if done is None:
        _start(directory, shape, wanted)
        done = 0
        _mark(directory, key, done)
    arrays = {count: _open(directory / f"cores{count}.npy", done < n) for count in wanted.core_counts}
    targets = _open(directory / "targets.npy", done < n)
    for start in range(0, done, BATCH):  # what an earlier run left
        for count, array in arrays.items():
            _check_finite(array[start : min(start + BATCH, done)], wanted.images[start:], count)
    if done < n:
        _fill(checkpoint, wanted, arrays, targets, done, lambda count: _mark(directory, key, count), progress)
    return Features(arrays, targets, grid)


def _fill(checkpoint: Checkpoint, wanted: Wanted, arrays, targets, done: int, mark, progress: Progress) -> None:
    import torch

    from ..model.reference import reference_model

    model, n = reference_model(checkpoint), len(wanted.images)
    progress("computing features", done, n)
    for start in range(done, n, BATCH):
        batch = wanted.images[start : start + BATCH]
        frames, known = [], []
        for item in batch:
            pixels = load_pixels(item.image)
            frames.append(resized(pixels, wanted.size, wanted.preprocessing))
            known.append(_target(item, wanted, (pixels.shape[0], pixels.shape[1])))
        pixels = torch.from_numpy(normalised(np.stack(frames)))
        stop = start + len(batch)
        with torch.inference_mode():
            for count, array in arrays.items():
                cls, dense = model(pixels, count)
                made = torch.stack([cls, dense.mean(1)], 1) if wanted.task == Task.CLASSIFY else dense
                with np.errstate(over="ignore"):  # refused in the next line
                    narrow = made.numpy().astype(np.float16)
                _check_finite(narrow, batch, count)
                array[start:stop] = narrow
        targets[start:stop] = np.stack(known)
        for array in (*arrays.values(), targets):
            array.flush()
        mark(stop)
        progress("computing features", stop, n)


def _check_finite(features: np.ndarray, images: Sequence[LabelledImage], count: int) -> None:
    """Names those of the first n images whose features `[n, ...]` would make the whole head NaN."""
    bad = np.flatnonzero(~np.isfinite(features).reshape(len(features), -1).all(1)).tolist()
    if bad:
        named = listed([str(images[i].image) for i in bad])
        raise EdgeError(
            f"The features at {count} cores are not finite in float16: those of {named}.",
            "Leave those images out; where it is every image, the checkpoint's weights are damaged.",
        )


def _target(item: LabelledImage, wanted: Wanted, shape: tuple[int, int]) -> Any:
    """The class of an image, or its mask or depth as a map; `shape` is the picture's rows and columns."""
    if wanted.task == Task.CLASSIFY:
        return item.target
    return target_of(item.file, wanted.task, shape, wanted.size, wanted.map_size, wanted.preprocessing)


def _start(directory: Path, shape: tuple[int, int, int], wanted: Wanted) -> None:
    """Empty arrays of their full size."""
    if directory.exists():
        if not directory.is_dir() or not (directory / STATE).is_file():
            raise EdgeError(f"{directory} is in the way, and is not a cache of features.", "Give another with --cache.")
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    dtype, maps = {
        Task.CLASSIFY: (np.int64, ()),
        Task.SEGMENT: (np.int16, wanted.map_size),
        Task.DEPTH: (np.float32, wanted.map_size),
    }[wanted.task]
    needed = len(wanted.core_counts) * int(np.prod(shape)) * 2
    free = shutil.disk_usage(directory).free
    if needed > free * 0.9:
        raise EdgeError(
            f"The features take {needed / 1e9:.1f} GB, and {directory} has {free / 1e9:.1f} GB free.",
            "Give fewer core counts with --cores, fewer images, or another place with --cache DIR.",
        )
    for count in wanted.core_counts:
        np.lib.format.open_memmap(directory / f"cores{count}.npy", "w+", np.float16, shape)
    np.lib.format.open_memmap(directory / "targets.npy", "w+", dtype, (shape[0], *maps))


def _open(path: Path, writable: bool) -> np.ndarray:
    return np.load(path, mmap_mode="r+" if writable else "r")


def _done(directory: Path, key: str) -> int | None:
    """How many images a cache of this key holds, or None where there is none."""
    try:
        state = read_json(directory / STATE)
    except (OSError, ValueError, EdgeError):
        return None
    done = state.get("done") if isinstance(state, dict) and state.get("key") == key else None
    return done if isinstance(done, int) else None


def _mark(directory: Path, key: str, done: int) -> None:
    write_atomically(directory / STATE, json.dumps({"key": key, "done": done}))


def _stamp(path: Path) -> Sequence[int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise EdgeError(f"{path} can't be read: {error.strerror}.", "Is it there, and may you read it?") from error
    return stat.st_size, stat.st_mtime_ns
