"""Bicubic resizing in products of matrices, against Pillow's to the bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from veca_edge.images import bicubic as module
from veca_edge.images.bicubic import MULTIPLICATIONS, bicubic

SEEDS = range(8)


def pillows(values, size, box):
    """Along rows, then along columns; in one call Pillow 13 takes the other order where that is less work."""
    rows = len(values)
    narrow = Image.fromarray(values).resize((size[0], rows), Image.Resampling.BICUBIC, (0, 0, box[0], rows))
    return np.asarray(narrow.resize(size, Image.Resampling.BICUBIC, (0, 0, size[0], box[1])))


def channels_of(values):
    return [values[..., channel] for channel in range(3)]


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_pillows_to_the_bit(seed):
    random = np.random.default_rng(seed)
    for number in range(30):
        height, width, rows, columns = (int(side) for side in random.integers(1, 230, 4))
        values = random.integers(0, 256, (height, width, 3), np.uint8)
        if number % 3 == 0:
            values = random.choice(np.array([0, 255], np.uint8), values.shape)  # overshoots
        cut = random.integers(0, 4, 2) / 4 * (number % 2)
        box = (max(0.25, width - cut[0]), max(0.25, height - cut[1]))
        made = bicubic(channels_of(values), (columns, rows), box)
        np.testing.assert_array_equal(made, pillows(values, (columns, rows), box), f"{values.shape} {rows} {columns}")


@pytest.mark.parametrize(("side", "size"), [(540, 256), (1080, 256), (300, 512), (2161, 31)])
def test_large_pictures_are_weighed_in_parts(side, size):
    values = np.random.default_rng(0).integers(0, 256, (side, side - 7, 3), np.uint8)
    box = (side - 7.0, float(side))
    np.testing.assert_array_equal(bicubic(channels_of(values), (size, size), box), pillows(values, (size, size), box))


def test_the_same_size_changes_nothing():
    values = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    np.testing.assert_array_equal(bicubic(channels_of(values), (47, 33), (47.0, 33.0)), values)


def test_no_product_is_large_enough_for_threads_of_the_blas(monkeypatch):
    products = []

    def matmul(a, b, out):
        products.append(a.shape[0] * b.size)
        return multiplied(a, b, out=out)

    multiplied = np.matmul
    monkeypatch.setattr(module.np, "matmul", matmul)
    for side, size in ((540, 256), (1080, 256), (300, 512), (4000, 64)):
        bicubic([np.zeros((side, side), np.uint8)], (size, size), (float(side), float(side)))
    assert products
    assert max(products) <= MULTIPLICATIONS


def test_threads_do_not_share_what_they_work_in():
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (int(side), 200, 3), np.uint8) for side in random.integers(50, 400, 24)]

    def made(values):
        return bicubic(channels_of(values), (64, 64), (200.0, float(len(values))))

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(made, pictures))
    for one, values in zip(together, pictures, strict=True):
        np.testing.assert_array_equal(one, pillows(values, (64, 64), (200.0, float(len(values)))))
