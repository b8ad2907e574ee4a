"""Pictures in cameras' layouts come out as their RGB would."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from veca_edge.base.errors import EdgeError
from veca_edge.images.geometry import Box
from veca_edge.images.pictures import Layout, Picture, plane_in
from veca_edge.images.preprocessing import Preprocessing, prepare

SHAPES = [(130, 172), (257, 258), (61, 90), (32, 40), (98, 66)]


def smooth(height, width, channels=3, seed=0):
    """Colours that RGB has, whichever matrix they are meant for."""
    random = np.random.default_rng(seed)
    coarse = random.integers(96, 160, (5, 5, channels), np.uint8)
    planes = [Image.fromarray(coarse[..., c]).resize((width, height), Image.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(plane) for plane in planes], -1)


def of_layout(layout, height, width):
    """A picture in some layout, with rows that are further apart than they are long."""
    half = (height + 1) // 2, (width + 1) // 2
    if layout in ("rgb", "bgr"):
        planes = [smooth(height, width)]
    elif layout == "nv12":
        planes = [smooth(height, width, 1)[..., 0], smooth(*half, 2, seed=1)]
    elif layout == "i420":
        planes = [smooth(height, width, 1)[..., 0], *np.moveaxis(smooth(*half, 2, seed=1), -1, 0)]
    elif layout == "i444":
        planes = list(np.moveaxis(smooth(height, width), -1, 0))
    else:
        luma, chroma = smooth(height, width, 1)[..., 0], smooth(height, width // 2, 2, seed=1)
        planes = [np.stack([luma, chroma.reshape(height, -1)[:, :width]], -1)]
    padded = [np.pad(plane, ((0, 0), (0, 6), *[(0, 0)] * (plane.ndim - 2)))[:, : plane.shape[1]] for plane in planes]
    return Picture(layout, tuple(padded), "bt709")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize(
    "how", [Preprocessing(), Preprocessing("letterbox"), Preprocessing("crop", 0.813)], ids=lambda how: how.resize
)
def test_every_layout_comes_out_as_its_rgb(layout, shape, how):
    picture = of_layout(layout, *shape)
    made = prepare(picture, (24, 24), how).astype(int)
    wanted = prepare(picture.rgb, (24, 24), how)
    difference = np.abs(made - wanted)
    if layout in ("rgb", "bgr"):
        assert not difference.any()
    # Rounded to 8 bits before the colours are converted, where blue takes chroma more than twice, instead of after it.
    assert difference.max() <= 4
    assert difference.mean() < 1


def by_definition(picture):
    """Its RGB, with the chroma of every pixel where the layout says that it is."""
    (height, width), (first, *others) = picture.size, picture.planes
    rows, columns = np.mgrid[:height, :width]
    if picture.layout in ("rgb", "bgr"):
        return first if picture.layout == "rgb" else first[..., ::-1]
    y, u, v = {
        "nv12": lambda: (first, *np.moveaxis(others[0][rows // 2, columns // 2], -1, 0)),
        "i420": lambda: (first, *(plane[rows // 2, columns // 2] for plane in others)),
        "i444": lambda: (first, *others),
        "yuyv": lambda: (first[..., 0], *(first[rows, columns // 2 * 2 + i, 1] for i in range(2))),
    }[str(picture.layout)]()
    return Picture("i444", (y, u, v), picture.matrix).rgb


@pytest.mark.parametrize("layout", list(Layout))
def test_every_pixel_has_its_colour_in_all_of_a_picture_and_in_any_box(layout):
    picture = of_layout(layout, 61, 90 if layout == "yuyv" else 91)
    wanted = by_definition(picture)
    np.testing.assert_array_equal(picture.rgb, wanted)
    for left, top, width, height in ((0, 0, 90, 61), (3, 4, 7, 9), (4, 3, 8, 8), (5, 5, 1, 1), (89, 60, 1, 1)):
        made = picture.as_rgb(np.stack(picture.boxed(Box(left, top, width, height)), -1))
        np.testing.assert_array_equal(made, wanted[top : top + height, left : left + width])


def test_a_plane_is_read_where_it_lies_in_memory():
    """Rows may be further apart than they are long, and behind the last one there may be nothing."""
    memory = np.arange(11, dtype=np.uint8)
    assert plane_in(memory[:8], (2, 3), 5).tolist() == [[0, 1, 2], [5, 6, 7]]
    assert plane_in(memory, (2, 2, 2), 7).tolist() == [[[0, 1], [2, 3]], [[7, 8], [9, 10]]]


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("is_full_range", [True, False])
def test_colours_are_converted_by_their_matrix(matrix, is_full_range):
    """White, black, the primaries and others, from luma and chroma by their definition."""
    red, blue = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}[matrix]
    primaries = [[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.25, 0.75]]
    rgb = np.concatenate([primaries, np.random.default_rng(0).random((500, 3))])
    y = rgb @ [red, 1 - red - blue, blue]
    u, v = (rgb[:, 2] - y) / (2 * (1 - blue)), (rgb[:, 0] - y) / (2 * (1 - red))
    luma, chroma = (255 * y, 255) if is_full_range else (16 + 219 * y, 224)
    planes = [np.round(luma), np.round(128 + chroma * u), np.round(128 + chroma * v)]
    y, u, v = (np.clip(plane, 0, 255).astype(np.uint8)[None].repeat(2, 0).repeat(2, 1) for plane in planes)
    picture = Picture("i420", (y, u[::2, ::2], v[::2, ::2]), matrix, is_full_range)
    difference = picture.rgb[0, ::2] - np.round(255 * rgb)
    assert np.abs(difference).max() <= 2
    assert np.abs(difference.mean(0)).max() < 0.2


def test_bt601_is_pillows():
    y, u, v = (smooth(24, 24, 3, seed=2)[..., channel] for channel in range(3))
    u, v = u[:12, :12], v[:12, :12]
    wide = np.stack([y, u.repeat(2, 0).repeat(2, 1), v.repeat(2, 0).repeat(2, 1)], -1)
    theirs = Image.merge("YCbCr", [Image.fromarray(wide[..., c]) for c in range(3)]).convert("RGB")
    made = Picture("i420", (y, u, v), "bt601", is_full_range=True).rgb
    assert np.abs(made.astype(int) - np.asarray(theirs)).max() <= 1


def test_what_the_planes_are_not_is_said():
    with pytest.raises(EdgeError, match=r"'nv21'.*\n.*rgb, bgr, nv12, i420, i444, yuyv"):
        Picture("nv21", (np.zeros((4, 4), np.uint8),))
    with pytest.raises(EdgeError, match="'jpeg'"):
        Picture("rgb", (np.zeros((4, 4, 3), np.uint8),), "jpeg")
    for layout, planes in (
        ("rgb", ()),
        ("rgb", (np.zeros((4, 4), np.uint8),)),
        ("rgb", (np.zeros((4, 4, 3), np.float32),)),
        ("rgb", (np.zeros((0, 4, 3), np.uint8),)),
        ("nv12", (np.zeros((4, 4), np.uint8), np.zeros((2, 4), np.uint8))),
        ("yuyv", (np.zeros((4, 5, 2), np.uint8),)),
    ):
        with pytest.raises(EdgeError, match=f"is not {layout}"):
            Picture(layout, planes)
