"""Small made-up data of which a patch sees by itself what it shows: dark left of a column, bright right of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from veca_edge.base.tasks import Task

SIDE = 32


def border(seed: int) -> int:
    """The column, a multiple of the demo's patch."""
    return int(np.random.default_rng(1000 + seed).integers(1, SIDE // 4)) * 4


def picture(seed: int) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
    pixels[:, border(seed) :] += 150
    return pixels


def write_labelled(folder: Path, task: Task, count: int = 24, suffix: str = ".png") -> Path:
    """`images/` with `masks/` (0 and 1) or `depth/` (1 and 4 metres)."""
    kind = "masks" if task == Task.SEGMENT else "depth"
    for name in ("images", kind):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        Image.fromarray(picture(i)).save(folder / "images" / f"{i}.png")
        right = np.arange(SIDE)[None].repeat(SIDE, 0) >= border(i)
        if task == Task.SEGMENT:
            Image.fromarray(right.astype(np.uint8)).save(folder / kind / f"{i}.png")
        elif suffix == ".npy":
            np.save(folder / kind / f"{i}.npy", np.where(right, 4.0, 1.0))
        else:
            Image.fromarray(np.where(right, 4000, 1000).astype(np.uint16)).save(folder / kind / f"{i}.png")
    return folder
