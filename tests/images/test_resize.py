"""What is kept of a frame, against torchvision and against plain statements of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision_import import transforms

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.base.tasks import Task
from veca_edge.images.geometry import Box, Resize, frame_geometry
from veca_edge.images.labelled import LabelledImage, target_of
from veca_edge.images.preprocessing import PADDING, Preprocessing, prepare

FRAMES = [(90, 160), (160, 90), (64, 64), (101, 67), (67, 100), (31, 47), (400, 37)]


def picture(height, width, seed=0):
    """Smooth colours under noise: what a camera's picture is like."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    noisy = np.asarray(coarse, np.int16) + random.integers(-12, 13, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def rows_first(pixels, height, width):
    """Along rows, then along columns, which Pillow 13 turns round for some sizes."""
    tv = transforms()
    narrow = tv.Resize((pixels.shape[0], width), tv.InterpolationMode.BICUBIC)(Image.fromarray(pixels))
    return tv.Resize((height, width), tv.InterpolationMode.BICUBIC)(narrow)


def torchvision_frame(pixels, size, ratio, image=Image.fromarray):
    """Resize and CenterCrop, with the short side that makes `ratio` of it the crop."""
    tv = transforms()
    chain = [tv.Resize(round(size / ratio), tv.InterpolationMode.BICUBIC, antialias=True), tv.CenterCrop(size)]
    return np.asarray(tv.Compose(chain)(image(pixels)))


@pytest.mark.parametrize("ratio", [1.0, 0.889, 0.875, 0.7])
@pytest.mark.parametrize("shape", FRAMES, ids=str)
def test_short_side_is_torchvision_to_the_bit(shape, ratio):
    pixels, tv = picture(*shape), transforms()
    for size in (32, 48, 57):
        made = prepare(pixels, size, Preprocessing("short-side", ratio))
        width, height = tv.Resize(round(size / ratio))(Image.fromarray(pixels)).size
        np.testing.assert_array_equal(made, tv.CenterCrop(size)(rows_first(pixels, height, width)))


def test_short_side_is_torchvision_on_tensors_to_a_level():
    """Its own kernel rounds otherwise than Pillow."""
    pixels = picture(101, 67)
    made = prepare(pixels, 48, Preprocessing("short-side", 0.875))
    theirs = torchvision_frame(pixels, 48, 0.875, lambda p: torch.from_numpy(p.copy()).permute(2, 0, 1))
    assert np.abs(made.astype(int) - theirs.transpose(1, 2, 0)).max() <= 1


def test_veca_evaluates_on_1_125_of_the_crop():
    for size in (224, 256, 384, 512):
        laid = frame_geometry((1000, 1000), (size, size), Resize.SHORT_SIDE, 0.889).laid
        assert (laid.width, laid.height) == (size * 9 // 8, size * 9 // 8)


@pytest.mark.parametrize("ratio", [1.0, 0.875])
@pytest.mark.parametrize("shape", FRAMES, ids=str)
def test_crop_keeps_what_short_side_keeps(shape, ratio):
    """The same place to a pixel, measured by what of the frame is in the middle of each side of the input."""
    crop, short = (frame_geometry(shape, (32, 32), kind, ratio) for kind in (Resize.CROP, Resize.SHORT_SIDE))
    for axis, extent in ((0, "width"), (1, "height")):
        edges = []
        for geometry in (crop, short):
            scale = getattr(geometry.cut, extent) / getattr(geometry.laid, extent)
            edges.append([geometry.cut[axis] + (edge - geometry.laid[axis]) * scale for edge in (0, 32)])
        frame_pixels_of_one = getattr(short.cut, extent) / getattr(short.laid, extent)
        np.testing.assert_allclose(edges[0], edges[1], atol=1 + frame_pixels_of_one)


def test_crop_looks_at_nothing_outside_of_its_box():
    pixels = picture(80, 120)
    geometry = frame_geometry((80, 120), (32, 32), Resize.CROP, 0.8)
    assert geometry.cut == Box(28, 8, 64, 64)
    elsewhere = np.zeros_like(pixels)
    elsewhere[8:72, 28:92] = pixels[8:72, 28:92]
    how = Preprocessing("crop", 0.8)
    np.testing.assert_array_equal(prepare(pixels, 32, how), prepare(elsewhere, 32, how))
    assert (prepare(pixels, 32, Preprocessing("short-side", 0.8)) != prepare(pixels, 32, how)).any()


@pytest.mark.parametrize("shape", FRAMES, ids=str)
def test_letterbox_is_the_whole_frame_on_the_mean(shape):
    pixels, size = picture(*shape), ImageSize(32, 48)
    made = prepare(pixels, size, Preprocessing("letterbox", interpolation="bicubic-antialiased"))
    scale = min(32 / shape[0], 48 / shape[1])
    height, width = round(shape[0] * scale), round(shape[1] * scale)
    top, left = (32 - height) // 2, (48 - width) // 2
    whole = rows_first(pixels, height, width)
    np.testing.assert_array_equal(made[top : top + height, left : left + width], np.asarray(whole))
    outside = np.ones((32, 48), bool)
    outside[top : top + height, left : left + width] = False
    assert (made[outside] == PADDING).all()
    assert outside.sum() == 32 * 48 - height * width
    assert 32 in (height,) or width == 48


@pytest.mark.parametrize("shape", FRAMES, ids=str)
def test_stretch_is_a_plain_resize(shape):
    pixels = picture(*shape)
    made = prepare(pixels, (32, 48), Preprocessing("stretch", interpolation="bicubic-antialiased"))
    theirs = rows_first(pixels, 32, 48)
    np.testing.assert_array_equal(made, np.asarray(theirs))


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (7, 300)], ids=str)
@pytest.mark.parametrize("shape", FRAMES, ids=str)
def test_short_side_covers_inputs_that_are_not_square(shape, size):
    for ratio in (1.0, 0.889):
        laid = frame_geometry(shape, size, Resize.SHORT_SIDE, ratio).laid
        assert laid.left <= 0 <= laid.left + laid.width - size[1]
        assert laid.top <= 0 <= laid.top + laid.height - size[0]
        assert laid.width == round(size[1] / ratio) or laid.height == round(size[0] / ratio)


def test_short_side_makes_no_huge_picture_of_a_long_one():
    strip = np.zeros((2, 30_000, 3), np.uint8)
    with pytest.raises(EdgeError, match="would have 3840000 x 256") as raised:
        prepare(strip, 256, Preprocessing("short-side"))
    assert "--resize crop" in raised.value.hint
    assert prepare(strip, 256, Preprocessing("letterbox")).shape == (256, 256, 3)


@pytest.mark.parametrize("is_upright", [False, True])
@pytest.mark.parametrize("how", [Preprocessing("crop", 0.5), Preprocessing("letterbox"), Preprocessing("stretch")])
def test_masks_go_where_their_images_go(tmp_path, how, is_upright):
    """A mask of two halves, beside its image in two colours: the map is what is seen in the frame."""
    mask = np.zeros((32, 64), np.uint8)
    mask[:, 40:] = 1
    mask = mask.T.copy() if is_upright else mask
    Image.fromarray(mask).save(tmp_path / "mask.png")
    frame = prepare(np.stack([mask * 255] * 2 + [255 - mask * 255], 2), 16, how).astype(int)
    item = LabelledImage(tmp_path / "image.png", tmp_path / "mask.png")
    found = target_of(item.file, Task.SEGMENT, mask.shape, (16, 16), (16, 16), how)
    seen = np.where(frame[..., 0] > 200, 1, np.where(frame[..., 2] > 200, 0, -1))
    is_edge = (seen == -1) & (found != -1)
    assert is_edge.sum() <= 32  # one line at the seam is mixed by the resizing, and one beside it
    np.testing.assert_array_equal(found[~is_edge], seen[~is_edge])
    assert (found == -1).any() == (how.resize == Resize.LETTERBOX)
    np.save(tmp_path / "depth.npy", mask + 0.5)
    depth = LabelledImage(tmp_path / "image.png", tmp_path / "depth.npy")
    metres = target_of(depth.file, Task.DEPTH, mask.shape, (16, 16), (16, 16), how)
    np.testing.assert_array_equal(metres, np.where(found == -1, 0, found + 0.5))
