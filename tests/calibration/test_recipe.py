"""A recipe survives its file, shares one set of weights, and folds exactly."""

import json
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import torch
from safetensors.numpy import save

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.calibration.recipe import (
    CalibrationFacts,
    LinearRecipe,
    PatchRecipe,
    QuantizationRecipe,
    nearest_codes,
    quantized,
    quantized_variants,
)
from veca_edge.model.folding import inference_weights, pixel_layer, smoothed
from veca_edge.model.torch_graph import InferenceModel

COUNTS = (8, 16)


def some_recipe(weights, rounding=True):
    rng = np.random.default_rng(0)
    factors = {
        name: np.exp(rng.uniform(-1, 1, layer.weight.shape[1])).astype(np.float32)
        for name, layer in weights.linears.items()
    }
    folded = smoothed(weights, factors).linears
    linears = {}
    for name, layer in folded.items():
        scale = (np.abs(layer.weight).max(1) / 126).astype(np.float32)
        linears[name] = LinearRecipe(
            factors[name],
            scale,
            {8: 0.05, 16: 0.06},
            rng.integers(-1, 2, layer.weight.shape).astype(np.int8) if rounding else None,
            rng.normal(size=len(scale)).astype(np.float32) if rounding else None,
        )
    facts = CalibrationFacts("abc", ("d1", "d2"), ("32x32",), 2, 7, {"torch": "1"})
    rows = pixel_layer(weights).weight
    patches = PatchRecipe(
        (np.abs(rows).max(1) / 126).astype(np.float32),
        rng.integers(-1, 2, rows.shape).astype(np.int8) if rounding else None,
    )
    return QuantizationRecipe(linears, COUNTS, "search", {"alpha": 0.5}, facts, patches)


@pytest.mark.parametrize("rounding", [True, False])
def test_survives_its_file(square, tmp_path, rounding):
    weights = inference_weights(square)
    recipe = some_recipe(weights, rounding)
    recipe.save(tmp_path / "recipe.safetensors")
    read = QuantizationRecipe.load(tmp_path / "recipe.safetensors")
    assert (read.core_counts, read.method, read.options, read.facts) == (
        recipe.core_counts,
        recipe.method,
        recipe.options,
        recipe.facts,
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "recipe.safetensors"]
    ours, theirs = (quantized(weights, r, 8).patch_quantization for r in (recipe, read))
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    np.testing.assert_array_equal(ours.weight_scale, theirs.weight_scale)
    for count in COUNTS:
        ours, theirs = quantized(weights, recipe, count).linears, quantized(weights, read, count).linears
        assert ours.keys() == theirs.keys()
        for name, layer in ours.items():
            a, b = layer.quantization, theirs[name].quantization
            np.testing.assert_array_equal(a.codes, b.codes)
            np.testing.assert_array_equal(a.weight_scale, b.weight_scale)
            np.testing.assert_array_equal(layer.bias, theirs[name].bias)
            assert a.activation_scale == b.activation_scale


def test_bad_files_are_refused(tmp_path, data):
    with pytest.raises(EdgeError, match="no recipe file"):
        QuantizationRecipe.load(tmp_path / "none")
    (tmp_path / "text").write_text("no recipe")
    with pytest.raises(EdgeError, match="not a quantization recipe"):
        QuantizationRecipe.load(tmp_path / "text")


@pytest.fixture
def saved(square, tmp_path):
    """A function that saves a recipe with a part of its description or of its tensors replaced, and loads it."""
    some_recipe(inference_weights(square)).save(tmp_path / "recipe.safetensors")
    with safetensors.safe_open(tmp_path / "recipe.safetensors", "numpy") as file:
        described = json.loads(file.metadata()["recipe"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118

    def load(changes=None, text=None, **arrays):
        kept = {key: value for key, value in {**tensors, **arrays}.items() if value is not None}
        text = json.dumps({**described, **(changes or {})}) if text is None else text
        (tmp_path / "changed.safetensors").write_bytes(save(kept, {"recipe": text}))
        return QuantizationRecipe.load(tmp_path / "changed.safetensors")

    load.described, load.layer = described, next(iter(described["activation_scale"]))
    return load


def test_damaged_descriptions_are_refused(saved):
    assert saved().core_counts == COUNTS
    scales, facts = saved.described["activation_scale"], saved.described["facts"]
    for changes in (
        {"core_counts": 5},
        {"core_counts": ["8"]},
        {"core_counts": [8, 16, 24]},
        {"activation_scale": []},
        {"activation_scale": {"nowhere": {"8": 0.1, "16": 0.1}}},
        {"activation_scale": {**scales, saved.layer: [1]}},
        {"activation_scale": {**scales, saved.layer: {"8": 0.1}}},
        {"activation_scale": {**scales, saved.layer: {"8": 0.1, "16": 0}}},
        {"activation_scale": {**scales, saved.layer: {"8": 0.1, "16": -1.0}}},
        {"activation_scale": {**scales, saved.layer: {"8": 0.1, "16": "0.1"}}},
        {"activation_scale": {**scales, saved.layer: {"8": 0.1, "sixteen": 0.1}}},
        {"method": 5},
        {"options": []},
        {"facts": 5},
        {"facts": {**facts, "more": 1}},
        {"facts": {**facts, "tools": []}},
        {"facts": {**facts, "seed": "7"}},
        {"facts": {**facts, "image_digests": [5]}},
    ):
        with pytest.raises(EdgeError, match="is damaged"):
            saved(changes)
    for text in ("", "[", "[" * 100_000, "[]", "5", '{"a": NaN}'):
        with pytest.raises(EdgeError, match="not a quantization recipe"):
            saved(text=text)


def test_damaged_tensors_are_refused(saved):
    layer = saved.layer
    for name, value in (
        ("smoothing", None),
        ("smoothing", np.ones((2, 2), np.float32)),
        ("smoothing", np.ones(64)),
        ("smoothing", np.zeros(64, np.float32)),
        ("weight_scale", np.full(64, np.nan, np.float32)),
        ("weight_scale", np.zeros(0, np.float32)),
        ("bias_correction", np.ones(3, np.float32)),
        ("rounding", np.zeros(5, np.float32)),
        ("rounding", np.zeros(5, np.uint8)),
        ("rounding", np.frombuffer(zlib.compress(bytes(7)), np.uint8)),
    ):
        with pytest.raises(EdgeError, match="is damaged"):
            saved(**{f"{layer}/{name}": value})
    for name, value in (
        ("weight_scale", np.zeros(64, np.float32)),
        ("weight_scale", np.ones(63, np.float32)),
        ("rounding", np.zeros((64, 12), np.float32)),
        ("rounding", np.zeros(64, np.int8)),
    ):
        with pytest.raises(EdgeError, match="is damaged"):
            saved(**{f"patch_embed/{name}": value})


def test_a_recipe_without_the_patches_leaves_them_float(saved, square):
    recipe = saved(**{"patch_embed/weight_scale": None})
    assert quantized(inference_weights(square), recipe, 8).patch_quantization is None


def test_a_rounding_that_would_fill_the_memory_is_not_unpacked(saved):
    """6.7 MB of it once became 12.8 GB in 108 s."""
    bomb = np.frombuffer(zlib.compress(bytes(200 << 20)), np.uint8)
    tracemalloc.start()
    with pytest.raises(EdgeError, match="rounding does not have"):
        saved(**{f"{saved.layer}/rounding": bomb})
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_core_counts_share_their_arrays(square):
    weights = inference_weights(square)
    variants = quantized_variants(weights, some_recipe(weights))
    assert tuple(variants) == COUNTS
    for a, b in zip(variants[8].linears.values(), variants[16].linears.values(), strict=True):
        assert a.weight is b.weight
        assert a.bias is b.bias
        assert a.quantization.codes is b.quantization.codes
        assert (a.quantization.activation_scale, b.quantization.activation_scale) == (0.05, 0.06)


def test_codes_are_nearest_plus_rounding_within_127(square):
    weights = inference_weights(square)
    recipe = some_recipe(weights)
    folded = smoothed(weights, {name: r.smoothing for name, r in recipe.linears.items()}).linears
    for name, layer in quantized(weights, recipe, 8).linears.items():
        linear = recipe.linears[name]
        codes = layer.quantization.codes
        expected = nearest_codes(folded[name].weight, linear.weight_scale) + linear.rounding
        np.testing.assert_array_equal(codes, np.clip(expected, -127, 127))
        assert codes.min() >= -127


def test_layers_kept_float_still_fold_their_smoothing(wide_projected):
    weights = inference_weights(wide_projected)
    made = quantized(weights, some_recipe(weights), 8, keep_float=tuple(weights.linears))
    assert all(layer.quantization is None for layer in made.linears.values())
    spec = GraphSpec(8, ImageSize(16, 24), input="tensor")
    image = torch.randn(2, 3, 16, 24)
    with torch.inference_mode():
        for ours, exact in zip(InferenceModel(made, spec)(image), InferenceModel(weights, spec)(image), strict=True):
            torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)


def test_unknown_counts_layers_and_models_are_refused(square, wide_projected):
    weights = inference_weights(square)
    recipe = some_recipe(weights)
    with pytest.raises(EdgeError, match="no activation scales for 24 cores"):
        quantized(weights, recipe, 24)
    with pytest.raises(EdgeError, match=r"Unknown layer 'x'[^$]*blocks\.0\.qkv"):
        quantized(weights, recipe, 8, keep_float=("x",))
    with pytest.raises(EdgeError, match="another model"):
        quantized(inference_weights(wide_projected), recipe, 8)
    for patches in (
        PatchRecipe(np.ones(3, np.float32)),
        PatchRecipe(np.ones(64, np.float32), np.zeros((64, 5), np.int8)),
    ):
        with pytest.raises(EdgeError, match="another model: its patch convolution"):
            quantized(weights, replace(recipe, patches=patches), 8)


def test_rounding_takes_less_than_two_bits_a_weight(tmp_path):
    rng = np.random.default_rng(0)
    rounding = rng.choice(np.array([-1, 0, 1], np.int8), (512, 512), p=(0.2, 0.6, 0.2))
    linear = LinearRecipe(np.ones(512, np.float32), np.ones(512, np.float32), {8: 1.0}, rounding)
    QuantizationRecipe({"a": linear}, (8,), "search").save(tmp_path / "r")
    assert (tmp_path / "r").stat().st_size < 512 * 512 / 4
    np.testing.assert_array_equal(QuantizationRecipe.load(tmp_path / "r").linears["a"].rounding, rounding)
