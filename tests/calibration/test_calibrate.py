"""Calibration of two trained blocks, judged in the simulation on other images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from veca_edge.base.spec import ImageSize
from veca_edge.calibration.activations import collect_activations
from veca_edge.calibration.calibrate import calibrate
from veca_edge.calibration.recipe import QuantizationRecipe, quantized_variants
from veca_edge.calibration.search import SearchOptions
from veca_edge.calibration.sensitivity import agreement_of, outputs_of
from veca_edge.demo import demo_calibration, demo_evaluation
from veca_edge.images.folder import find_images, load_images
from veca_edge.model.folding import InferenceWeights, inference_weights, smoothed

SIZE = ImageSize(32, 32)
QUICK = SearchOptions(rows=1024, pooled_rows=0, search_rows=256, strengths=(0.8, 1.0), clips=(1.0, 0.9, 0.8))


@pytest.fixture(scope="module")
def calibration():
    return load_images(find_images(demo_calibration()), SIZE)


@pytest.fixture(scope="module")
def frames():
    return load_images(find_images(demo_evaluation()), SIZE).frames


@pytest.fixture(scope="module")
def recipe(short_demo, calibration):
    return calibrate(inference_weights(short_demo), [calibration], (8, 64), options=QUICK)


def cosines(weights: InferenceWeights, recipe: QuantizationRecipe, frames: np.ndarray) -> list[tuple[float, float]]:
    found = []
    for count, made in quantized_variants(weights, recipe).items():
        agreement = agreement_of(outputs_of(made, frames, count), outputs_of(weights, frames, count))
        found.append((agreement.cls.mean, agreement.dense.mean))
    return found


def test_the_demo_stays_close_at_every_core_count(short_demo, recipe, frames):
    for cls, dense in cosines(inference_weights(short_demo), recipe, frames):
        assert cls > 0.9996
        assert dense > 0.9995


def test_hard_weights_are_no_harder(short_demo, calibration, recipe, frames):
    """A twin with channels rescaled by 1/64 to 64 computes the same in float, and must do so in INT8."""
    weights, rng = inference_weights(short_demo), np.random.default_rng(0)
    factors = {
        name: np.exp(rng.uniform(-np.log(64), np.log(64), layer.weight.shape[1])).astype(np.float32)
        for name, layer in weights.linears.items()
    }
    twin = smoothed(weights, factors)
    hard = calibrate(twin, [calibration], (8, 64), options=QUICK)
    pairs = zip(cosines(weights, recipe, frames), cosines(twin, hard, frames), strict=True)
    for (cls, dense), (hard_cls, hard_dense) in pairs:
        assert abs(cls - hard_cls) < 2e-4
        assert abs(dense - hard_dense) < 2e-4


def test_the_recipe_survives_its_file(recipe, tmp_path, short_demo):
    recipe.save(tmp_path / "recipe.safetensors")
    loaded = QuantizationRecipe.load(tmp_path / "recipe.safetensors")
    weights = inference_weights(short_demo)
    before, after = (quantized_variants(weights, r)[64].linears for r in (recipe, loaded))
    for name, layer in before.items():
        np.testing.assert_array_equal(layer.quantization.codes, after[name].quantization.codes)
        assert layer.quantization.activation_scale == after[name].quantization.activation_scale
    # Nothing but the recipe decides: the codes belong to the smoothed weights and neighbours fit together.
    assert all(layer.quantization.sums_fit_16_bits for layer in before.values())


def test_calibration_is_the_same_every_time(short_demo, calibration):
    weights = inference_weights(short_demo)
    few = replace(calibration, frames=calibration.frames[:8], digests=calibration.digests[:8])
    quick = replace(QUICK, rows=64, search_rows=64, strengths=(1.0,), clips=(1.0,))
    one, two = (calibrate(weights, [few], (8,), options=quick) for _ in range(2))
    for name, layer in one.linears.items():
        assert layer.activation_scale == two.linears[name].activation_scale
        np.testing.assert_array_equal(layer.weight_scale, two.linears[name].weight_scale)


def test_every_image_size_counts(demo, calibration):
    """Layers are shown every size, and one recipe serves them all."""
    weights, sizes = inference_weights(demo), (SIZE, ImageSize(64, 48))
    quick = replace(QUICK, rows=512, clips=(1.0, 0.9))
    images = [load_images(find_images(demo_calibration())[::4], size) for size in sizes]
    recipe = calibrate(weights, images, (16,), options=quick)
    assert recipe.facts.image_sizes == ("32x32", "64x48")
    assert recipe.facts.image_count == len(images[0].frames)
    together, first, second = (
        {tuple(row) for row in collect_activations(weights, frames, (16,), rows=10**6)["blocks.0.out"][16].numpy()}
        for frames in ([s.frames for s in images], [images[0].frames], [images[1].frames])
    )
    assert together & first
    assert together & second
    for size in sizes:
        judges = load_images(find_images(demo_evaluation())[:16], size).frames
        assert min(min(pair) for pair in cosines(weights, recipe, judges)) > 0.998
