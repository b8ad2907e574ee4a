"""A frame made smaller: halved first, against a plain statement of it and against the full antialiased bicubic."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.common import photograph
from veca_edge.base.errors import EdgeError
from veca_edge.images import scaling
from veca_edge.images.preprocessing import Preprocessing, prepare
from veca_edge.images.scaling import Interpolation, halved

SIZES = [(8, 8), (9, 8), (8, 9), (7, 5), (1, 6), (6, 1), (1, 1), (540, 960), (1083, 1925)]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def plainly_halved(values):
    height, width = values.shape[:2]
    even = np.pad(values, ((0, height % 2), (0, width % 2), *[(0, 0)] * (values.ndim - 2)), "edge").astype(int)
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2] + 2) >> 2


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("opencv", [True, False])
def test_halving_is_what_it_says_with_and_without_opencv(monkeypatch, size, opencv):
    if opencv:
        assert scaling._opencv() is not None
    else:
        monkeypatch.setattr(scaling, "_opencv", lambda: None)
    values = noise(*size, 3)
    np.testing.assert_array_equal(halved(values), plainly_halved(values))
    np.testing.assert_array_equal(halved(values[..., 0]), plainly_halved(values[..., 0]))
    np.testing.assert_array_equal(halved(values[::-1]), plainly_halved(values[::-1]))


def test_halving_wakes_no_threads():
    """OpenCV's would take a core from the model, which another frame runs on."""
    code = """
import cv2, numpy, psutil
from veca_edge.images.scaling import halved

cv2.setNumThreads(4)
before = psutil.Process().num_threads()
halved(numpy.zeros((1081, 1921, 3), numpy.uint8))
assert psutil.Process().num_threads() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_box_is_halved_while_it_is_four_times_as_large():
    halvings = Interpolation.HALVED.halvings
    assert halvings((1080, 1080), (256, 256)) == 1
    assert halvings((2160, 2160), (256, 256)) == 2
    assert halvings((1023, 1024), (256, 256)) == 0
    assert halvings((1024, 1024), (256, 256)) == 1
    assert halvings((1920, 1000), (256, 256)) == 0  # stretched: the height would become too small
    assert Interpolation.BICUBIC.halvings((2160, 2160), (256, 256)) == 0


@pytest.mark.parametrize("shape", [(130, 171), (257, 259), (64, 300), (90, 70)], ids=str)
@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
def test_a_frame_is_halved_then_resized(shape, resize):
    pixels, size = noise(*shape, 3), (16, 16)
    how = Preprocessing(resize)
    cut, laid = how.geometry(shape, size).cut, how.geometry(shape, size).laid
    values = pixels[cut.top : cut.top + cut.height, cut.left : cut.left + cut.width]
    width, height = float(cut.width), float(cut.height)
    while width >= 4 * laid.width and height >= 4 * laid.height:
        values, width, height = plainly_halved(values).astype(np.uint8), width / 2, height / 2
    wanted = Image.fromarray(values).resize((laid.width, laid.height), Image.BICUBIC, (0, 0, width, height))
    made = prepare(pixels, size, how)[laid.top : laid.top + laid.height, laid.left : laid.left + laid.width]
    np.testing.assert_array_equal(made, np.asarray(wanted))


@pytest.mark.parametrize("shape", [(40, 60), (63, 63), (20, 12)], ids=str)
def test_small_frames_come_out_as_they_always_did(shape):
    pixels = noise(*shape, 3)
    for resize in ("crop", "letterbox", "stretch"):
        before = Preprocessing(resize, interpolation="bicubic-antialiased")
        np.testing.assert_array_equal(prepare(pixels, 16, Preprocessing(resize)), prepare(pixels, 16, before))


@pytest.mark.parametrize(("size", "times"), [(24, 3), (31, 3), (47, 2), (63, 2), (90, 1), (127, 1)])
def test_photographs_differ_by_less_than_a_level(size, times):
    before, after = Preprocessing(interpolation="bicubic-antialiased"), Preprocessing()
    pixels = photograph(512, 640, size)
    assert Interpolation.HALVED.halvings((512, 512), (size, size)) == times
    full, made = (prepare(pixels, size, how).astype(int) for how in (before, after))
    assert 0 < np.abs(made - full).mean() < 1, np.abs(made - full).mean()


def test_boxes_of_a_frame_are_not_copied_whole():
    pixels = noise(64, 96, 3)
    np.testing.assert_array_equal(np.asarray(scaling.picture_of(pixels[3:40, 11:90])), pixels[3:40, 11:90])
    np.testing.assert_array_equal(np.asarray(scaling.picture_of(pixels[::-1, ::2])), pixels[::-1, ::2])
    np.testing.assert_array_equal(np.asarray(scaling.picture_of(pixels[-1:, -1:])), pixels[-1:, -1:])
    np.testing.assert_array_equal(np.asarray(scaling.picture_of(pixels[:, :, ::-1])), pixels[:, :, ::-1])


def test_bundles_keep_their_way():
    before = Preprocessing(interpolation="bicubic-antialiased")
    assert Preprocessing().interpolation == Interpolation.HALVED
    assert Preprocessing("short-side").interpolation == Interpolation.BICUBIC
    for how in (before, Preprocessing(), Preprocessing("short-side")):
        assert Preprocessing.from_json(how.to_json()) == how
        assert Preprocessing.from_metadata(how.metadata) == how
    assert "(a + b + c + d + 2) >> 2" in Preprocessing().description
    assert ">> 2" not in before.description
    with pytest.raises(EdgeError, match=r"'lanczos'.*\n.*bicubic-antialiased, halved-bicubic"):
        Preprocessing(interpolation="lanczos")
    with pytest.raises(EdgeError, match="interpolation = lanczos"):
        Preprocessing.from_json({**before.to_json(), "interpolation": "lanczos"})
