"""The CPU dialect's INT8, executed by ONNX Runtime, against the simulation in PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.converters import cpu
from veca_edge.converters.cpu import channel_groups, onnx_models_from_variants
from veca_edge.model.folding import InferenceWeights, LinearQuantization, folded_patches, inference_weights, pixel_layer
from veca_edge.model.plan import Variant
from veca_edge.model.torch_graph import InferenceModel
from veca_edge.runtime.onnxruntime import may_saturate, session_from_file, session_options

SIZE = ImageSize(32, 32)


def quantized_by_range(weights: InferenceWeights, scale: float) -> InferenceWeights:
    """Plain symmetric INT8, enough to compare two implementations of the same arithmetic."""

    def quantized(layer):
        steps = (np.abs(layer.weight).max(1) / 127).astype(np.float32)
        codes = np.clip(np.rint(layer.weight / steps[:, None]), -127, 127).astype(np.int8)
        return replace(layer, quantization=LinearQuantization(codes, steps, scale))

    return weights.with_linears({name: quantized(layer) for name, layer in weights.linears.items()})


def with_pixels(weights: InferenceWeights, largest: int = 127) -> InferenceWeights:
    """The patch convolution in INT8, its codes up to `largest`."""
    rows = pixel_layer(weights).weight
    steps = (np.abs(rows).max(1) / largest).astype(np.float32)
    codes = np.rint(rows / steps[:, None]).astype(np.int8)
    return replace(weights, patch_quantization=LinearQuantization(codes, steps, 1.0))


def frames(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


def run(path, batch: np.ndarray) -> list[np.ndarray]:
    return session_from_file(path, session_options(threads=1, exact_int8=True)).run(None, {"image": batch})


def test_integers_are_those_of_the_simulation(demo, tmp_path):
    weights = quantized_by_range(inference_weights(demo), 0.05)
    spec = GraphSpec(16, SIZE, batch=2)
    (artifact,) = onnx_models_from_variants([Variant(spec, "int8", weights)], tmp_path, {})
    made = run(tmp_path / artifact.path, frames())
    with torch.inference_mode():
        expected = InferenceModel(weights, spec)(torch.from_numpy(frames()))
    for value, wanted in zip(made, expected, strict=True):
        cosine = (value * wanted.numpy()).sum() / np.linalg.norm(value) / np.linalg.norm(wanted)
        assert cosine > 0.9999  # the same integers; float32 rounding flips a few codes


def test_pixels_enter_int8_as_they_are(demo, tmp_path):
    """The patches of the file are those of the rounded weights on the bytes, exactly but for float32."""
    weights = with_pixels(inference_weights(demo))
    q, size = weights.patch_quantization, weights.config.patch_size
    rounded = (q.codes * q.weight_scale[:, None].astype(np.float64)).reshape(-1, size, size, 3).transpose(0, 3, 1, 2)
    exact, bias = folded_patches(weights)
    moved = bias + 128 * (exact - rounded).sum((1, 2, 3))  # what is rounded is seen from 128, the middle of a byte
    spec = GraphSpec(16, SIZE, batch=2)
    (artifact,) = onnx_models_from_variants([Variant(spec, "int8", weights)], tmp_path, {})
    model = InferenceModel(replace(weights, patch_quantization=None), spec)
    model.patch_weight.copy_(torch.from_numpy(rounded))
    model.patch_bias.copy_(torch.from_numpy(moved))
    with torch.inference_mode():
        expected = model(torch.from_numpy(frames()))
    for value, wanted in zip(run(tmp_path / artifact.path, frames()), expected, strict=True):
        np.testing.assert_allclose(value, wanted.numpy(), atol=1e-4, rtol=1e-4)
    nodes = onnx.load(tmp_path / artifact.path).graph.node
    assert [n.op_type for n in nodes][:4] == ["Reshape", "Transpose", "Reshape", "MatMulIntegerToFloat"]


def test_pixels_count_where_sums_have_to_fit_16_bits(demo, tmp_path):
    weights = inference_weights(demo)
    for largest, saturates in ((127, True), (64, False)):
        variant = Variant(GraphSpec(8, SIZE), "int8", with_pixels(weights, largest))
        (artifact,) = onnx_models_from_variants([variant], tmp_path / str(largest), {})
        assert may_saturate(artifact) == saturates


def test_normalised_pixels_stay_float(demo, tmp_path):
    weights, spec = inference_weights(demo), GraphSpec(8, SIZE, input="tensor")
    for name, made in (("int8", with_pixels(weights)), ("fp32", weights)):
        onnx_models_from_variants([Variant(spec, name, made)], tmp_path / name, {})
    one, two = (onnx.load(next((tmp_path / n / "models").glob("*.onnx"))) for n in ("int8", "fp32"))
    assert [n.op_type for n in one.graph.node] == [n.op_type for n in two.graph.node]


def test_products_do_not_saturate(demo, tmp_path):
    """Ranges so narrow that most codes are extreme: pairs of products then exceed 16 bits."""
    weights = quantized_by_range(inference_weights(demo), 0.002)
    spec = GraphSpec(8, SIZE, batch=2)
    (artifact,) = onnx_models_from_variants([Variant(spec, "int8", weights)], tmp_path, {})
    assert may_saturate(artifact)
    cls, _ = run(tmp_path / artifact.path, frames())
    with torch.inference_mode():
        expected = InferenceModel(weights, spec)(torch.from_numpy(frames()))[0].numpy()
    assert (cls * expected).sum() / np.linalg.norm(cls) / np.linalg.norm(expected) > 0.999


def test_sums_that_fit_16_bits_need_no_exact_products(demo, tmp_path):
    """As extreme as above, but for what neighbours add up to: the default gives the same bits."""

    def halved(layer):
        codes = (layer.quantization.codes.astype(np.int16) // 2).astype(np.int8)
        return replace(layer, quantization=replace(layer.quantization, codes=codes))

    weights = quantized_by_range(inference_weights(demo), 0.002)
    weights = weights.with_linears({name: halved(layer) for name, layer in weights.linears.items()})
    (artifact,) = onnx_models_from_variants([Variant(GraphSpec(8, SIZE, batch=2), "int8", weights)], tmp_path, {})
    assert not may_saturate(artifact)
    default = session_from_file(tmp_path / artifact.path, session_options(threads=1)).run(None, {"image": frames()})
    for value, exact in zip(default, run(tmp_path / artifact.path, frames()), strict=True):
        np.testing.assert_array_equal(value, exact)


def test_codes_of_several_core_counts_are_looked_at_once(demo, tmp_path, monkeypatch):
    weights, looked_at = quantized_by_range(inference_weights(demo), 0.05), []
    looks = LinearQuantization.sums_fit_16_bits.fget
    monkeypatch.setattr(LinearQuantization, "sums_fit_16_bits", property(lambda q: looked_at.append(q) or looks(q)))

    def rescaled(layer):
        return replace(layer, quantization=replace(layer.quantization, activation_scale=0.06))

    other = weights.with_linears({name: rescaled(layer) for name, layer in weights.linears.items()})
    variants = [Variant(GraphSpec(8, SIZE), "int8", weights), Variant(GraphSpec(16, SIZE), "int8", other)]
    artifacts = onnx_models_from_variants(variants, tmp_path, {})
    assert len(looked_at) == len(weights.linears)
    assert [may_saturate(artifact) for artifact in artifacts] == [True, True]


def test_every_linear_layer_is_one_integer_operator(demo, tmp_path):
    weights = quantized_by_range(inference_weights(demo), 0.05)
    (artifact,) = onnx_models_from_variants([Variant(GraphSpec(16, SIZE), "int8", weights)], tmp_path, {})
    nodes = onnx.load(tmp_path / artifact.path).graph.node
    layers = weights.config.layers
    integer = [n for n in nodes if n.op_type == "MatMulIntegerToFloat"]
    # q, k, v, out, gate, value, fc2 in every block, on four inputs; that of `out` in two parts, but in the last block.
    assert len(integer) == 7 * layers
    assert len([n for n in nodes if n.op_type == "QuantizeLinear"]) == 5 * layers - 1
    assert len([n for n in nodes if n.op_type == "ScatterND"]) == layers - 1
    assert not [n for n in nodes if n.op_type == "DequantizeLinear"]


def test_layers_can_stay_float(demo, tmp_path):
    weights = quantized_by_range(inference_weights(demo), 0.05)
    name = "blocks.2.fc2"
    mixed = weights.with_linears({name: replace(weights.linears[name], quantization=None)})
    (artifact,) = onnx_models_from_variants([Variant(GraphSpec(16, SIZE), "int8", mixed)], tmp_path, {})
    nodes = onnx.load(tmp_path / artifact.path).graph.node
    assert len([n for n in nodes if n.op_type == "MatMulIntegerToFloat"]) == 7 * weights.config.layers - 1


@pytest.mark.parametrize(
    ("channels", "patches", "groups"),
    [
        (1024, 256, [(0, 1024)]),
        (1024, 1024, [(0, 512), (512, 1024)]),
        (2730, 576, [(0, 1408), (1408, 2730)]),
        (64, 1 << 20, [(0, 64)]),
    ],
)
def test_channel_groups(channels, patches, groups):
    assert channel_groups(channels, patches) == groups


def test_channel_groups_change_no_result(demo, tmp_path, monkeypatch):
    weights = quantized_by_range(inference_weights(demo), 0.05)
    results = []
    for name, limit in (("whole", cpu.GROUP_BYTES), ("groups", 1)):
        monkeypatch.setattr(cpu, "GROUP_BYTES", limit)
        (artifact,) = onnx_models_from_variants([Variant(GraphSpec(16, SIZE), "int8", weights)], tmp_path / name, {})
        results.append(run(tmp_path / name / artifact.path, frames(1)))
    gates = [
        n
        for n in onnx.load(tmp_path / "groups" / artifact.path).graph.node
        if ".fc1.gate." in n.name and n.op_type == "MatMulIntegerToFloat"
    ]
    assert len(gates) > weights.config.layers
    for whole, grouped in zip(*results, strict=True):
        np.testing.assert_array_equal(whole, grouped)


def test_core_counts_share_one_weights_file(demo, tmp_path):
    weights = quantized_by_range(inference_weights(demo), 0.05)
    variants = [Variant(GraphSpec(count, SIZE), "int8", weights) for count in weights.config.core_counts]
    artifacts = onnx_models_from_variants(variants, tmp_path / "many", {})
    alone = onnx_models_from_variants(variants[-1:], tmp_path / "one", {})
    total = sum(p.stat().st_size for p in (tmp_path / "many").rglob("*") if p.is_file())
    assert (tmp_path / "many" / "models" / "weights.bin").stat().st_size < total
    assert total < alone[0].bytes * 1.35  # eight graphs around one set of weights (the tiny model's graphs weigh)
    shared = run(tmp_path / "many" / artifacts[-1].path, frames(1))
    single = run(tmp_path / "one" / alone[0].path, frames(1))
    for a, b in zip(shared, single, strict=True):
        np.testing.assert_array_equal(a, b)
