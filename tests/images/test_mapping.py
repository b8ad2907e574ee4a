"""Maps and points brought back to the frame: the inverse of what `prepare` does."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import veca_edge
from veca_edge.base.errors import EdgeError
from veca_edge.images.mapping import map_to_frame, points_to_frame
from veca_edge.images.preprocessing import Preprocessing, prepare

KINDS = [
    Preprocessing(),
    Preprocessing("crop", 0.8),
    Preprocessing("short-side", 0.889),
    Preprocessing("letterbox"),
    Preprocessing("stretch"),
]
FRAMES = [(90, 160), (160, 90), (64, 64), (101, 67)]
SIZE = (48, 64)
kinds = pytest.mark.parametrize("how", KINDS, ids=lambda how: f"{how.resize}-{how.crop_ratio}")
frames = pytest.mark.parametrize("shape", FRAMES, ids=str)


def smooth(height, width):
    coarse = np.random.default_rng(0).integers(40, 216, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@kinds
@frames
def test_a_frame_comes_back_where_it_was(how, shape):
    pixels = smooth(*shape)
    back = map_to_frame(prepare(pixels, SIZE, how).astype(np.float32), shape, SIZE, how)
    assert back.shape == pixels.shape
    seen = np.isfinite(back[..., 0])
    assert np.abs(back[seen] - pixels[seen]).max() < 8
    assert np.abs(back[seen] - pixels[seen]).mean() < 1
    if not how.resize.takes_ratio:
        assert seen.all()
        return
    # A centred box with the input's aspect ratio, of the ratio's size.
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert seen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    scale = min(shape[0] / SIZE[0], shape[1] / SIZE[1]) * how.crop_ratio
    assert len(rows) == pytest.approx(SIZE[0] * scale, abs=1.5)
    assert len(columns) == pytest.approx(SIZE[1] * scale, abs=1.5)
    assert rows[0] == pytest.approx(shape[0] - 1 - rows[-1], abs=2)
    assert columns[0] == pytest.approx(shape[1] - 1 - columns[-1], abs=2)


@kinds
def test_points_are_where_the_map_says(how):
    """The centre of every pixel of a map of coordinates."""
    shape = (90, 160)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    there = points_to_frame(np.stack([x, y], -1), shape, SIZE, how)
    back = map_to_frame(np.stack([x, y], -1), shape, SIZE, how)
    rows, columns = (there[..., 1] - 0.5).round().astype(int), (there[..., 0] - 0.5).round().astype(int)
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    read = back[rows.clip(0, shape[0] - 1), columns.clip(0, shape[1] - 1)]
    known = inside & np.isfinite(read[..., 0])
    assert known.mean() > (0.7 if how.resize == "letterbox" else 0.9)
    assert np.abs(read - np.stack([x, y], -1))[known].max() <= 0.6


def test_the_corners_of_every_kind():
    corners = np.array([[0, 0], [32, 32]])
    for how, expected in (
        (Preprocessing(), [[20, 0], [60, 40]]),
        (Preprocessing("crop", 0.5), [[30, 10], [50, 30]]),
        (Preprocessing("short-side", 0.5), [[30, 10], [50, 30]]),
        (Preprocessing("letterbox"), [[0, -20], [80, 60]]),
        (Preprocessing("stretch"), [[0, 0], [80, 40]]),
    ):
        assert points_to_frame(corners, (40, 80), (32, 32), how).tolist() == expected
        assert points_to_frame(corners, (80, 40), (32, 32), how).tolist() == [[x, y] for y, x in expected]


def test_labels_take_the_nearest_cell_and_say_where_nothing_was_seen():
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    made = map_to_frame(labels, (4, 8), (4, 4))
    assert made.dtype == np.uint8
    assert made.tolist() == [[255, 255, a, a, b, b, 255, 255] for a, b in ((0, 1), (0, 1), (2, 3), (2, 3))]
    wide = map_to_frame(labels.astype(np.int32), (4, 8), (4, 4))
    assert wide.dtype == np.int32
    assert (wide[:, :2] == -1).all()
    assert (wide[:, 2:6] == made[:, 2:6]).all()


def test_floats_are_linear_between_the_centres_of_cells():
    ramp = np.array([[1.0, 3.0]], np.float16)
    made = map_to_frame(ramp, (1, 8), (1, 8))
    assert made.dtype == np.float32
    assert made[0].tolist() == [1.0, 1.0, 1.25, 1.75, 2.25, 2.75, 3.0, 3.0]
    assert map_to_frame(ramp, (1, 8), (1, 8), interpolation="nearest")[0].tolist() == [1.0] * 4 + [3.0] * 4
    assert np.isnan(map_to_frame(ramp, (1, 8), (1, 4), None)[0, [0, 1, 6, 7]]).all()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_padding_does_not_leak_into_the_frame(interpolation):
    """16 rows of padding above and below, and cells of 12: the second and the fifth are mostly frame."""
    cells = np.full((8, 8), 5.0, np.float32)
    cells[:1] = cells[7:] = 1000.0
    made = map_to_frame(cells, (32, 64), (64, 64), Preprocessing("letterbox"), interpolation)
    assert (made == 5.0).all()
    coarse = np.array([[1000.0], [5.0], [1000.0]], np.float32)  # centres at 10.7, 32, 53.3; the frame is 16 to 48
    assert (map_to_frame(coarse, (32, 64), (64, 64), Preprocessing("letterbox"), interpolation) == 5.0).all()
    one = np.array([[7.0]], np.float32)
    thin = map_to_frame(one, (1, 300), (64, 64), Preprocessing("letterbox"), interpolation)
    assert (thin == 7.0).all()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_a_frame_that_shows_in_no_centre_of_a_cell_has_the_one_that_it_is_in(interpolation):
    """One of 64 pixels, the 32nd, and cells of 8: the fourth of 8."""
    cells = np.tile(np.arange(8, dtype=np.float32)[:, None], (1, 8))
    made = map_to_frame(cells, (1, 300), (64, 64), Preprocessing("letterbox"), interpolation)
    np.testing.assert_allclose(made, 3.0)
    made = map_to_frame(cells.T, (300, 1), (64, 64), Preprocessing("letterbox"), interpolation)
    np.testing.assert_allclose(made, 3.0)


def test_a_frame_of_which_the_model_saw_no_pixels_centre_has_nothing():
    made = map_to_frame(np.zeros((8, 8), np.uint8), (1, 4), (64, 64), Preprocessing("short-side", 0.5))
    assert made.tolist() == [[255] * 4]


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (np.zeros(4, np.uint8), {}, "without the batch axis"),
        (np.zeros((1, 1, 4, 4), np.float32), {}, "without the batch axis"),
        (np.zeros((1, 4, 4), np.float32), {}, "without the batch axis"),
        (np.zeros((2, 4, 4), np.uint8), {}, "without the batch axis"),
        (np.zeros((0, 4), np.uint8), {}, "brought to a frame"),
        (np.zeros((4, 0), np.uint8), {}, "brought to a frame"),
        (np.zeros((4, 4), bool), {}, "bool"),
        (np.zeros((4, 4), np.uint16), {}, "uint16"),
        (np.zeros((4, 4), np.uint8), {"interpolation": "bilinear"}, "no values between"),
        (np.zeros((4, 4), np.float32), {"interpolation": "cubic"}, "nearest, bilinear"),
    ],
)
def test_what_is_no_map_is_refused(values, options, said):
    with pytest.raises(EdgeError, match=said):
        map_to_frame(values, (8, 8), (4, 4), **options)


def test_a_frame_without_pixels_is_refused():
    for frame, size in (((0, 8), (4, 4)), ((8, 0), (4, 4)), ((8, 8), (4, 0))):
        with pytest.raises(EdgeError, match="brought to a frame"):
            map_to_frame(np.zeros((4, 4), np.uint8), frame, size)


@pytest.mark.parametrize("shape", [(4, 4, 4), (2, 4, 3), (4, 2, 3)])
def test_channels_are_not_taken_for_a_batch(shape):
    values = np.random.default_rng(0).random(shape)
    made = map_to_frame(values, (8, 8), (4, 4))
    for channel in range(shape[2]):
        np.testing.assert_array_equal(made[..., channel], map_to_frame(values[..., channel], (8, 8), (4, 4)))


def test_points_must_be_pairs():
    for points in (np.zeros((4, 3)), 2.0):
        with pytest.raises(EdgeError, match="not pairs"):
            points_to_frame(points, (8, 8), (4, 4))
    assert points_to_frame((1, 2), (8, 8), (4, 4)).tolist() == [2.0, 4.0]


def test_both_are_public():
    assert veca_edge.map_to_frame is map_to_frame
    assert veca_edge.points_to_frame is points_to_frame
    assert veca_edge.Preprocessing is Preprocessing
