"""One file for many core counts, against the static graphs; opened as a bundle's artifact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.converters.tensorrt.dialects import tensorrt_models_from_variants
from veca_edge.converters.tensorrt.options import TensorrtOptions
from veca_edge.converters.tensorrt.rtx import rtx_is_installed
from veca_edge.model.folding import InferenceWeights, LinearQuantization, inference_weights
from veca_edge.model.plan import Variant
from veca_edge.model.torch_graph import InferenceModel
from veca_edge.rules.tensorrt.lint import lint_onnx
from veca_edge.targets.table import open_artifact

SIZE = ImageSize(32, 32)
COUNTS = (8, 24, 64)
ELASTIC = TensorrtOptions("10.3", elastic=True, compile=False)


def quantized(weights: InferenceWeights, scale: float) -> InferenceWeights:
    def one(layer):
        steps = (np.abs(layer.weight).max(1) / 127).astype(np.float32)
        codes = np.clip(np.rint(layer.weight / steps[:, None]), -127, 127).astype(np.int8)
        return replace(layer, quantization=LinearQuantization(codes, steps, scale))

    return weights.with_linears({name: one(layer) for name, layer in weights.linears.items()})


def frames(batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, *SIZE, 3), dtype=np.uint8)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def tiny(short_demo):
    return inference_weights(short_demo)


@pytest.mark.parametrize(("outputs", "batch"), [(("cls", "dense", "logits"), 1), (("cls",), 2), (("dense",), 1)])
def test_every_core_count_from_one_file(tiny, tmp_path, outputs, batch):
    variants = [
        Variant(GraphSpec(count, SIZE, batch, outputs=outputs), precision, tiny)
        for precision in ("fp32", "fp16")
        for count in COUNTS
    ]
    artifacts = tensorrt_models_from_variants(variants, tmp_path, {}, ELASTIC)
    assert len({a.path for a in artifacts}) == 2
    for artifact, variant in zip(artifacts, variants, strict=True):
        assert artifact.core_count == variant.spec.core_count
        made = open_artifact(tmp_path, artifact, 1)(frames(batch))
        with torch.inference_mode():
            wanted = InferenceModel(tiny, variant.spec)(torch.from_numpy(frames(batch)))
        for name, value in zip(variant.spec.outputs, wanted, strict=True):
            if artifact.precision == "fp32":
                assert np.abs(made[name] - value.numpy()).max() < 1e-4
            else:
                assert cosine(made[name], value.numpy()) > 0.99999


def test_int8_takes_the_largest_scale(tiny, tmp_path):
    variants = [
        Variant(GraphSpec(count, SIZE), "int8", quantized(tiny, scale))
        for count, scale in zip(COUNTS, (0.03, 0.05, 0.04), strict=True)
    ]
    artifacts = tensorrt_models_from_variants(variants, tmp_path, {}, ELASTIC)
    for artifact, variant in zip(artifacts, variants, strict=True):
        made = open_artifact(tmp_path, artifact, 1)(frames(1))
        with torch.inference_mode():
            wanted = InferenceModel(quantized(tiny, 0.05), variant.spec)(torch.from_numpy(frames(1)))
        for name, value in zip(("cls", "dense"), wanted, strict=True):
            assert cosine(made[name], value.numpy()) > 0.999
    path = tmp_path / artifacts[0].path
    assert lint_onnx(path, "10.3", allow_dynamic=True) == []
    assert {finding.rule for finding in lint_onnx(path, "10.3")} == {"static-shapes"}
    assert [a.details["profile"] for a in artifacts] == [0, 1, 2]
    assert artifacts[0].details["profiles"][1] == {
        "core_tokens": [[1, 24, 192]] * 3,
        "core_coordinates": [[1, 24, 2]] * 3,
    }


@pytest.mark.skipif(not rtx_is_installed(), reason="tensorrt-rtx is not installed")
def test_one_build_with_all_profiles(square, tmp_path):
    weights = quantized(inference_weights(square), 0.1)
    variants = [Variant(GraphSpec(count, SIZE), "int8", weights) for count in (8, 16, 32)]
    artifacts = tensorrt_models_from_variants(variants, tmp_path, {}, TensorrtOptions("10.3", elastic=True))
    report = artifacts[0].details["compile"]
    assert report["profiles"] == 3
    assert report["warnings"] == []
    assert all(a.details["compile"] == report for a in artifacts)


def test_older_releases_are_refused(tiny, tmp_path):
    with pytest.raises(EdgeError, match="needs TensorRT 10"):
        tensorrt_models_from_variants(
            [Variant(GraphSpec(8, SIZE), "fp16", tiny)], tmp_path, {}, TensorrtOptions("8.6", elastic=True)
        )


def test_core_tokens_that_are_missing_or_damaged(tiny, tmp_path):
    (artifact,) = tensorrt_models_from_variants([Variant(GraphSpec(8, SIZE), "fp16", tiny)], tmp_path, {}, ELASTIC)
    constants = tmp_path / artifact.details["constants"]
    for damage in (b"damaged", b"", b"PK\x03\x04 no zip"):
        constants.write_bytes(damage)
        with pytest.raises(EdgeError, match="cannot be read"):
            open_artifact(tmp_path, artifact, 1)
    np.savez(constants, core_tokens=np.zeros((1, 4, 192), np.float32))
    with pytest.raises(EdgeError, match="does not hold the 8"):
        open_artifact(tmp_path, artifact, 1)
    np.savez(constants)
    with pytest.raises(EdgeError, match="does not hold the 8"):
        open_artifact(tmp_path, artifact, 1)
    constants.unlink()
    with pytest.raises(EdgeError, match="cannot be read"):
        open_artifact(tmp_path, artifact, 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        *((name, "outside of it") for name in ("../outside.npz", "/outside.npz", "link.npz", "")),
        (5, r"got `int` - at `\$\.constants`"),
    ],
)
def test_core_tokens_outside_of_the_bundle_are_not_read(tiny, tmp_path, name, said):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (artifact,) = tensorrt_models_from_variants([Variant(GraphSpec(8, SIZE), "fp16", tiny)], bundle, {}, ELASTIC)
    (bundle / artifact.details["constants"]).rename(tmp_path / "outside.npz")
    (bundle / "link.npz").symlink_to(tmp_path / "outside.npz")
    artifact = replace(artifact, details={**artifact.details, "constants": name})
    with pytest.raises(EdgeError, match=said):
        open_artifact(bundle, artifact, 1)
