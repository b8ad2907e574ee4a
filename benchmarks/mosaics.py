"""An honest small segmentation set out of images of classes: mosaics of labelled tiles.

`python -m benchmarks.mosaics IMAGES OUTPUT` reads a folder of images in folders named by class and writes `images/`,
`masks/` and `labels.txt` for `veca-edge fit --task segment`. No image is in two mosaics of different `--seed`s of one
call; every mosaic has `--tiles` x `--tiles` tiles, each of its own class or not, as they fall.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from PIL import Image

from veca_edge.base.tasks import Task
from veca_edge.images.labelled import LABELS_FILE, find_labelled
from veca_edge.images.preprocessing import prepare


def write_mosaics(source: Path, output: Path, count: int, tiles: int = 2, side: int = 32, seed: int = 0) -> None:
    """Writes `count` mosaics of `tiles` x `tiles` images of `side` pixels, and a mask for each.

    Args:
        source: a folder of images for each class.
    """
    folder, generator = find_labelled(source, Task.CLASSIFY), random.Random(seed)
    for name in ("images", "masks"):
        (output / name).mkdir(parents=True, exist_ok=True)
    (output / LABELS_FILE).write_text("\n".join(folder.labels or ()) + "\n", encoding="utf-8")
    order: list[int] = []
    for i in range(count):
        picture = np.zeros((tiles * side, tiles * side, 3), np.uint8)
        mask = np.zeros((tiles * side, tiles * side), np.uint8)
        for row in range(tiles):
            for column in range(tiles):
                if not order:
                    order = generator.sample(range(len(folder.images)), len(folder.images))
                item = folder.images[order.pop()]
                where = slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
                picture[where] = prepare(item.image, side)
                mask[where] = item.target
        Image.fromarray(picture).save(output / "images" / f"{i:05d}.png")
        Image.fromarray(mask).save(output / "masks" / f"{i:05d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--tiles", type=int, default=2)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_mosaics(given.images, given.output, given.count, given.tiles, given.side, given.seed)


if __name__ == "__main__":
    main()
