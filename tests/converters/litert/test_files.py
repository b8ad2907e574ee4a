"""LiteRT files: what they compute, by LiteRT itself, and what they hold."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ExportSpec, GraphSpec, ImageSize
from veca_edge.converters.litert import flatbuffer
from veca_edge.converters.litert.files import check_export, tflite_files_from_variants
from veca_edge.converters.litert.flatbuffer import BUFFER_ALIGNMENT
from veca_edge.formats.tflite import read_tflite
from veca_edge.images.preprocessing import Preprocessing
from veca_edge.model.checkpoint import load_checkpoint
from veca_edge.model.folding import inference_weights
from veca_edge.model.plan import Variant
from veca_edge.model.torch_graph import InferenceModel
from veca_edge.proof.fidelity import cosine

pytest.importorskip("ai_edge_litert")
from veca_edge.runtime.litert import open_tflite, partitions_of

SIZE = ImageSize(32, 48)


def frames(count=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), np.uint8)


def expected(weights, spec, image):
    with torch.inference_mode():
        made = InferenceModel(weights, spec).eval()(torch.from_numpy(image))
    return {name: value.numpy() for name, value in zip(spec.outputs, made, strict=True)}


@pytest.mark.parametrize("outputs", [("cls", "dense"), ("cls",), ("dense",)], ids=" ".join)
@pytest.mark.parametrize(("batch", "input"), [(1, "image"), (2, "image"), (2, "tensor")])
@pytest.mark.parametrize("model", ["square", "wide_projected"])
def test_fp32_is_the_reference(request, tmp_path, model, batch, input, outputs):
    weights = inference_weights(request.getfixturevalue(model))
    variants = [Variant(GraphSpec(c, SIZE, batch, input, outputs), "fp32", weights) for c in (8, 32)]
    artifacts = tflite_files_from_variants(variants, tmp_path, {})
    assert {a.path for a in artifacts} == {"models/veca_fp32.tflite"}
    assert [a.function for a in artifacts] == ["cores_8", "cores_32"]
    image = frames(batch)
    if input == "tensor":
        image = np.random.default_rng(1).normal(size=(batch, 3, *SIZE)).astype(np.float32)
    for variant, artifact in zip(variants, artifacts, strict=True):
        made = open_tflite(tmp_path, artifact, 1)(image)
        for name, wanted in expected(weights, variant.spec, image).items():
            assert made[name].shape == wanted.shape
            assert np.abs(made[name] - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max())


def test_one_layer(square, tmp_path):
    """Block 0 is then also the last: the rows of the core tokens that nobody asks for are left out."""
    config = replace(square.config, layers=1)
    tensors = {k: v for k, v in square.tensors.items() if "blocks." not in k or "blocks.0." in k}
    weights = inference_weights(replace(square, config=config, tensors=tensors))
    for outputs in (("cls", "dense"), ("cls",), ("dense",)):
        variant = Variant(GraphSpec(8, SIZE, outputs=outputs), "fp32", weights)
        (artifact,) = tflite_files_from_variants([variant], tmp_path, {})
        made = open_tflite(tmp_path, artifact, 1)(frames())
        for name, wanted in expected(weights, variant.spec, frames()).items():
            assert np.abs(made[name] - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.99999), ("int8", 0.99)])
def test_lower_precisions_are_close(tflite_files, precision, least):
    directory, artifacts, variants = tflite_files
    for artifact, variant in zip(artifacts[precision], variants[precision], strict=True):
        plain = {n: replace(layer, quantization=None) for n, layer in variant.weights.linears.items()}
        wanted = expected(variant.weights.with_linears(plain), variant.spec, frames())
        made = open_tflite(directory, artifact, 1)(frames())
        assert min(cosine(made[name], wanted[name]).mean() for name in made) > least


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_xnnpack_takes_each_signature_in_one_piece(tflite_files, precision):
    directory, artifacts, _ = tflite_files
    model = read_tflite(directory / artifacts[precision][0].path)
    assert list(model.signatures) == ["cores_8", "cores_16", "cores_32"]
    for signature in model.signatures:
        found = partitions_of(model, signature)
        assert (found.count, found.outside) == (1, ())


def test_a_core_count_adds_little_to_a_file(tflite_files, tmp_path):
    directory, artifacts, variants = tflite_files
    for precision, group in variants.items():
        (alone,) = tflite_files_from_variants(group[:1], tmp_path, {})
        # Of a model this small the graph is most of it; `small` in INT8 grows by a hundredth with each.
        assert artifacts[precision][0].bytes < {"fp32": 1.7, "fp16": 1.9, "int8": 2.3}[precision] * alone.bytes
        model = read_tflite(directory / artifacts[precision][0].path)
        assert len({model.content(i) for i in range(1, len(model.buffers))}) == len(model.buffers) - 1


def test_the_file_says_what_it_is(tflite_files):
    directory, artifacts, _ = tflite_files
    model = read_tflite(directory / artifacts["int8"][0].path)
    facts = json.loads(model.content(model.metadata["veca_edge"]))
    assert facts["core_counts"] == [8, 16, 32]
    assert facts["preprocessing"] == Preprocessing.from_metadata({}).to_json()
    assert facts["labels"] == ["a cat", "a d\u00f6g"]
    assert facts["outputs"] == ["cls", "dense"]
    assert facts["signatures"]["cores_16"] == {"core_count": 16, "image_size": [32, 48], "batch": 1}
    assert len(facts["checkpoint_sha256"]) == 64


def test_what_delegates_ask_for(tflite_files):
    """Ranks up to 4, aligned buffers, an image that DEQUANTIZE makes float, INT8 weights with a scale per row."""
    directory, artifacts, variants = tflite_files
    for precision, group in artifacts.items():
        model = read_tflite(directory / group[0].path)
        assert all(start % BUFFER_ALIGNMENT == 0 for start, length in model.buffers if length)
        for subgraph in model.subgraphs:
            assert max(len(t.shape) for t in subgraph.tensors) == 4
            (image,) = subgraph.inputs
            assert subgraph.tensors[image].dtype == "UINT8"
            assert subgraph.tensors[image].quantization.scales.tolist() == [1 / 128]
            assert [op.type for op in subgraph.operators if image in op.inputs] == ["DEQUANTIZE"]
            codes = [t for t in subgraph.tensors if t.dtype == "INT8"]
            assert len(codes) == (len(variants["int8"][0].weights.linears) if precision == "int8" else 0)
            assert all(len(t.quantization.scales) == t.shape[0] and t.quantization.symmetric for t in codes)
            halves = [t for t in subgraph.tensors if t.dtype == "FLOAT16"]
            assert bool(halves) == (precision == "fp16")


def test_equal_bytes_every_time(square, tmp_path):
    variant = Variant(GraphSpec(8, SIZE), "fp32", inference_weights(square))
    digests = {tflite_files_from_variants([variant], tmp_path, {"a": "b"})[0].sha256 for _ in range(2)}
    assert len(digests) == 1


def test_several_image_sizes(square, tmp_path):
    weights = inference_weights(square)
    variants = [Variant(GraphSpec(8, size), "fp32", weights) for size in (SIZE, ImageSize(32, 32))]
    artifacts = tflite_files_from_variants(variants, tmp_path, {})
    assert [a.function for a in artifacts] == ["cores_8_32x48", "cores_8_32x32"]
    image = frames()[:, :, :32].copy()
    made = open_tflite(tmp_path, artifacts[1], 1)(image)
    assert np.abs(made["cls"] - expected(weights, variants[1].spec, image)["cls"]).max() < 1e-4


def test_what_cannot_be_written(square, tmp_path, monkeypatch):
    weights = inference_weights(square)
    large = replace(weights.blocks[0].fc2, weight=weights.blocks[0].fc2.weight * 1e6)
    variant = Variant(GraphSpec(8, SIZE), "fp16", weights.with_linears({large.name: large}))
    with pytest.raises(EdgeError, match=r"'blocks\.0\.fc2' holds .*, but FP16 ends at 65504"):
        tflite_files_from_variants([variant], tmp_path, {})
    monkeypatch.setattr(flatbuffer, "MAX_CONSTANT_BYTES", 1 << 16)
    with pytest.raises(EdgeError, match="ends at 2 GiB"):
        tflite_files_from_variants([replace(variant, precision="fp32")], tmp_path, {})
    assert list(tmp_path.rglob("*.tflite")) == []
    counts = tuple(range(1, 258))
    with pytest.raises(EdgeError, match="256 signatures at most, and 257"):
        check_export(ExportSpec("android", counts, ("fp32",), (SIZE,)))


@pytest.mark.parametrize("name", ["square", "prefixed", "wide_projected"])
def test_fp32_agrees_with_every_vector(data, tmp_path, name):
    weights = inference_weights(load_checkpoint(data / f"{name}.pt"))
    vectors = np.load(data / f"{name}.npz")
    image = vectors["image"].astype(np.float32)
    # The vectors of wide_projected are themselves up to 1.8e-4 from the result in float64.
    tolerance = 3e-4 if name == "wide_projected" else 1e-4
    size, counts = ImageSize(*image.shape[2:]), [c for c in weights.config.core_counts if f"cls_{c}" in vectors]
    assert counts
    variants = [Variant(GraphSpec(c, size, len(image), "tensor"), "fp32", weights) for c in counts]
    artifacts = tflite_files_from_variants(variants, tmp_path, {})
    for artifact in artifacts:
        made = open_tflite(tmp_path, artifact, 1)(image)
        assert np.abs(made["cls"] - vectors[f"cls_{artifact.core_count}"]).max() < 1e-4
        assert np.abs(made["dense"] - vectors[f"dense_{artifact.core_count}"]).max() < tolerance
