"""What is drawn on frames, pixel by pixel where there is no text."""

from __future__ import annotations

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.images.overlay import (
    OPACITY,
    DepthRange,
    depth_range,
    draw_attention,
    draw_classes,
    draw_colours,
    draw_depth,
    draw_masks,
    enlarged,
)
from veca_edge.images.palette import palette, ramp
from veca_edge.images.patches import patch_basis, patch_colours

HEIGHT, WIDTH = 240, 320


@pytest.fixture
def frame():
    made = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    made.setflags(write=False)  # nothing draws into what it is given
    return made


def changed(made, frame):
    """Which pixels differ, as [H, W]."""
    assert made.shape == frame.shape
    assert made.dtype == np.uint8
    return (made != frame).any(2)


def test_class_names_are_a_panel_at_the_top_left(frame):
    made = draw_classes(frame, [("cat", 0.75), ("dog", 0.2)])
    where = changed(made, frame)
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    assert (rows[0], columns[0]) == (0, 0)
    assert rows[-1] < 60
    assert columns[-1] < 160
    assert made[where].min(1).max() > 180  # white text, however thin
    assert (made[0, 0] == 40).all()  # a darkened frame around it
    assert (made != draw_classes(frame, [("cat", 0.74), ("dog", 0.2)])).any()
    assert not changed(draw_classes(frame, []), frame).any()
    many = [(f"class {i}", 0.01) for i in range(100)]
    np.testing.assert_array_equal(draw_classes(frame, many), draw_classes(frame, many[:5]))


@pytest.mark.parametrize("size", [(240, 320), (9, 9), (1, 1), (16, 300), (300, 16)])
def test_a_panel_stays_within_frames_of_every_size(size):
    frame = np.full((*size, 3), 50, np.uint8)
    long = [("a name that is far longer than any frame is wide, and then some more of it, and so on", 0.5)] * 30
    assert draw_classes(frame, long, most=30).shape == frame.shape
    assert draw_depth(frame, np.ones(size, np.float32), DepthRange(0.5, 2)).shape == frame.shape


def test_masks_are_blended_in_the_colours_of_the_bundle(frame):
    labels = np.full((HEIGHT, WIDTH), 255, np.uint8)
    labels[150:, :160], labels[150:, 200:] = 0, 2
    colours = palette(3)
    made = draw_masks(frame, labels, ("sky", "tree", "road"), colours)
    for label, place in ((0, (200, 50)), (2, (200, 300))):
        rgb = np.array(list(bytes.fromhex(colours[label][1:])))
        np.testing.assert_allclose(made[place], 100 * (1 - OPACITY) + rgb * OPACITY, atol=1)
    assert not changed(made, frame)[150:, 160:200].any()
    legend = made[:100, :160].reshape(-1, 3).tolist()
    swatches = [list(bytes.fromhex(colour[1:])) in legend for colour in colours]
    assert swatches == [True, False, True]  # only of what is seen
    signed = np.where(labels == 255, -1, labels.astype(int))
    np.testing.assert_array_equal(draw_masks(frame, signed, ("sky", "tree", "road"), colours), made)
    np.testing.assert_array_equal(draw_masks(frame, labels, ("sky", "tree", "road")), made)
    assert not changed(draw_masks(frame, np.full_like(labels, 255)), frame).any()


def test_the_largest_mask_is_first_in_the_legend(frame):
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[:100] = 1
    colours = ("#ff0000", "#00ff00")
    made = draw_masks(frame, labels, None, colours)
    first = [np.flatnonzero((made[:100, :20] == rgb).all(2).any(1))[0] for rgb in ([255, 0, 0], [0, 255, 0])]
    assert first[0] < first[1]


def test_wide_labels_may_be_255(frame):
    labels = np.full((HEIGHT, WIDTH), 255, np.int32)
    assert changed(draw_masks(frame, labels), frame).all()


def test_depth_is_bright_where_it_is_near(frame):
    metres = np.linspace(1, 3, WIDTH, dtype=np.float32)[None].repeat(HEIGHT, 0)
    metres[:, 160:170] = np.nan
    made = draw_depth(frame, metres, DepthRange(1, 3), opacity=1.0)
    np.testing.assert_array_equal(made[10, 0], ramp(np.array(1.0)))
    np.testing.assert_array_equal(made[10, -1], ramp(np.array(0.0)))
    assert not changed(made, frame)[:150, 160:170].any()
    # The scale's own bar, at the bottom right, has every colour.
    corner = made[170:, 100:].reshape(-1, 3).tolist()
    assert ramp(np.array(1.0)).tolist() in corner
    other = draw_depth(frame, metres, DepthRange(1, 4), opacity=1.0)
    assert changed(other[170:, 100:], made[170:, 100:]).any()  # its numbers differ
    flat = draw_depth(frame, np.full((HEIGHT, WIDTH), 2.0), DepthRange(2, 2), opacity=1.0)
    assert (flat[:100] == ramp(np.array(1.0))).all()


def test_a_range_leaves_out_what_is_extreme():
    metres = np.linspace(1, 2, 1000)
    metres[0], metres[1] = 1000, np.nan
    found = depth_range(metres)
    assert found.near == pytest.approx(1.02, abs=0.01)
    assert found.far == pytest.approx(1.98, abs=0.01)
    with pytest.raises(EdgeError, match="No depth is known"):
        depth_range(np.full((2, 2), np.nan))


def test_attention_is_bright_where_it_is_strongest(frame):
    weights = np.zeros((HEIGHT, WIDTH), np.float32)
    weights[:, :100], weights[:, 100:200], weights[:, 300:] = 0.2, 0.1, np.nan
    made = draw_attention(frame, weights)
    assert made[5, 50].sum() > made[5, 150].sum() > made[5, 250].sum()
    assert made[5, 250].tolist() == [50, 50, 50]
    assert not changed(made, frame)[:, 300:].any()
    assert made[5, 50].sum() > draw_attention(frame, weights, peak=0.4)[5, 50].sum()
    assert (draw_attention(frame, np.zeros_like(weights)) == 50).all()


def patches(seed, n=48, scale=1.0):
    """Three kinds of patches in 16 dimensions, a little noisy; and which kind each is."""
    random = np.random.default_rng(seed)
    kinds = random.integers(0, 3, n)
    centres = np.random.default_rng(7).normal(size=(3, 16)) * 3
    return (centres[kinds] + random.normal(size=(n, 16)) * 0.1 * scale).astype(np.float32), kinds


def test_patches_alike_have_colours_alike_in_every_frame():
    first, _ = patches(0)
    basis = patch_basis(first)
    seen = {0: [], 1: [], 2: []}
    for seed in range(4):
        features, kinds = patches(seed)
        colours = patch_colours(features, basis, (6, 8))
        assert colours.shape == (6, 8, 3)
        assert 0 <= colours.min() <= colours.max() <= 255
        for kind in seen:
            seen[kind].append(colours.reshape(-1, 3)[kinds == kind])
    spread = max(np.concatenate(values)[:, :2].std(0).max() for values in seen.values())
    centres = [np.concatenate(values).mean(0) for values in seen.values()]
    assert spread < 10
    assert min(np.abs(a - b).max() for i, a in enumerate(centres) for b in centres[i + 1 :]) > 60


def test_a_basis_is_the_main_components():
    features, _ = patches(0, n=200)
    basis = patch_basis(np.stack([features[:100], features[100:]]))
    _, _, expected = np.linalg.svd(features - features.mean(0), full_matrices=False)
    overlap = np.abs(np.diag(expected[:2] @ basis.axes[:, :2]))
    np.testing.assert_allclose(overlap, 1, atol=1e-4)
    np.testing.assert_array_equal(patch_basis(features).axes, patch_basis(features.copy()).axes)


def test_features_that_do_not_differ_are_grey():
    features = np.ones((4, 2), np.float32)
    assert (patch_colours(features, patch_basis(features), (2, 2)) == 127.5).all()


def test_patch_features_that_do_not_fit_are_refused():
    features, _ = patches(0)
    with pytest.raises(EdgeError, match="no patches"):
        patch_basis(np.zeros((0, 16), np.float32))
    with pytest.raises(EdgeError, match="not finite"):
        patch_basis(np.full((4, 16), np.nan))
    with pytest.raises(EdgeError, match="grid of 5x5"):
        patch_colours(features, patch_basis(features), (5, 5))


def test_colours_leave_what_was_not_seen(frame):
    colours = np.full((HEIGHT, WIDTH, 3), 200.0, np.float32)
    colours[:, :50] = np.nan
    made = draw_colours(frame, colours, opacity=0.5)
    assert not changed(made, frame)[:, :50].any()
    assert (made[:, 50:] == 150).all()


def test_enlarging_keeps_frames_and_maps_on_each_other():
    labels = np.arange(12).reshape(3, 4)
    made = enlarged(labels, 10)
    assert made.shape == (9, 12)
    np.testing.assert_array_equal(made[1::3, 1::3], labels)
    assert enlarged(np.zeros((5, 400, 3), np.uint8)).shape == (5, 400, 3)


def test_what_does_not_fit_the_frame_is_refused(frame):
    small = np.zeros((6, 8), np.uint8)
    for draw in (
        lambda: draw_masks(frame, small),
        lambda: draw_depth(frame, small, DepthRange(0, 1)),
        lambda: draw_attention(frame, small),
        lambda: draw_colours(frame, np.zeros((6, 8, 3))),
    ):
        with pytest.raises(EdgeError, match="map_to_frame"):
            draw()
    with pytest.raises(EdgeError, match="uint8 RGB"):
        draw_classes(frame.astype(np.float32), [])
    labels = np.full((HEIGHT, WIDTH), 3)
    with pytest.raises(EdgeError, match=r"class 3.* 2 names"):
        draw_masks(frame, labels, ("a", "b"))
    with pytest.raises(EdgeError, match=r"class 3.* 1 colours"):
        draw_masks(frame, labels, None, ("#000000",))
    with pytest.raises(EdgeError, match="not a colour"):
        draw_masks(frame, labels, None, ("#000000",) * 3 + ("red",))
    with pytest.raises(EdgeError, match="integers"):
        draw_masks(frame, labels.astype(np.float32))
