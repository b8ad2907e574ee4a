"""The patch convolution in INT8, on the demo's own images."""

from __future__ import annotations

import numpy as np
import pytest

from veca_edge.base.spec import ImageSize
from veca_edge.calibration.patches import sampled_patches, solve_patches
from veca_edge.calibration.recipe import QuantizationRecipe, quantized
from veca_edge.calibration.search import SearchOptions
from veca_edge.demo import demo_calibration, demo_evaluation
from veca_edge.images.folder import find_images, load_images
from veca_edge.model.folding import InferenceWeights, inference_weights, pixel_layer

SIZE = ImageSize(32, 32)


@pytest.fixture(scope="module")
def frames():
    return load_images(find_images(demo_calibration()), SIZE).frames


@pytest.fixture(scope="module")
def weights(short_demo):
    return inference_weights(short_demo)


def noise(weights: InferenceWeights, frames: np.ndarray, options: SearchOptions) -> float:
    """The error of the patches of other images, relative to what varies in them."""
    recipe = QuantizationRecipe({}, (8,), "search", patches=solve_patches(weights, [frames], options))
    made, exact = quantized(weights, recipe, 8).patch_quantization, pixel_layer(weights).weight
    assert made is not None
    assert made.activation_scale == 1.0
    assert made.sums_fit_16_bits
    others = load_images(find_images(demo_evaluation()), SIZE).frames
    seen = sampled_patches([others], weights.config.patch_size, 4096, np.random.default_rng(1)).astype(float) - 128
    off = seen @ (made.codes * made.weight_scale[:, None] - exact).T
    return float(np.linalg.norm(off) / np.linalg.norm((seen - seen.mean(0)) @ exact.T))


def test_codes_are_rounded_for_what_images_show(weights, frames):
    searched = noise(weights, frames, SearchOptions())
    assert searched < 0.004
    assert searched < noise(weights, frames, SearchOptions(gptq=False)) / 3


def test_the_same_every_time(weights, frames):
    first, second = (solve_patches(weights, [frames[:8]], SearchOptions(), seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.weight_scale, second.weight_scale)
    np.testing.assert_array_equal(first.rounding, second.rounding)


def test_patches_are_a_frames_bytes():
    frame = np.random.default_rng(0).integers(0, 256, (1, 8, 12, 3), np.uint8)
    other = np.zeros((2, 4, 4, 3), np.uint8)
    found = sampled_patches([frame, other], 4, 100, np.random.default_rng(0))
    assert found.shape == (6 + 2, 48)
    wanted = {frame[0, y : y + 4, x : x + 4].tobytes() for y in (0, 4) for x in (0, 4, 8)}
    assert {patch.tobytes() for patch in found[:6]} == wanted
    # Of three images one patch each is enough for three.
    assert len(sampled_patches([frame, other], 4, 3, np.random.default_rng(0))) == 3
