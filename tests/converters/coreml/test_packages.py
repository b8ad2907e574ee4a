"""Core ML packages, read back from disk and executed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from veca_edge.base.errors import EdgeError
from veca_edge.base.options import to_mapping
from veca_edge.base.spec import ExportSpec, GraphSpec, ImageSize
from veca_edge.converters.coreml.options import CoremlOptions
from veca_edge.converters.coreml.packages import mlpackages_from_variants, quantized_layers
from veca_edge.converters.coreml.writer import identifier
from veca_edge.demo import demo_checkpoint
from veca_edge.formats.coremltools_library import coremltools_for
from veca_edge.formats.mlpackage import read_mlpackage
from veca_edge.model.checkpoint import load_checkpoint
from veca_edge.model.folding import inference_weights
from veca_edge.model.heads import classifier
from veca_edge.model.plan import Variant
from veca_edge.model.torch_graph import InferenceModel
from veca_edge.proof.fidelity import cosine
from veca_edge.runtime.program import open_mlpackage
from veca_edge.targets.table import target_named

SIZE = ImageSize(32, 48)


def frames(count=2, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)


def written(directory, weights, spec, precision="fp16", options=None, **metadata):
    """One variant, converted; its artifact and an executor of it."""
    (artifact,) = mlpackages_from_variants([Variant(spec, precision, weights)], directory, metadata, options)
    return artifact, open_mlpackage(directory / artifact.path, artifact.function, artifact)


def expected(weights, spec, batch):
    """What the inference form in PyTorch gives, float32 and without quantization."""
    with torch.inference_mode():
        outputs = InferenceModel(weights, spec)(torch.from_numpy(batch))
    return {name: value.numpy() for name, value in zip(spec.outputs, outputs, strict=True)}


def size_of(directory, path):
    return (directory / path / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size


@pytest.mark.parametrize("layout", ["tokens", "ane"])
@pytest.mark.parametrize(("name", "core_count"), [("square", 16), ("prefixed", 32), ("wide_projected", 8)])
def test_fp16_agrees_with_the_reference_vectors(data, tmp_path, name, core_count, layout):
    vectors = np.load(data / f"{name}.npz")
    image = vectors["image"].astype(np.float32)
    spec = GraphSpec(core_count, ImageSize(*image.shape[2:]), 2, "tensor")
    weights = inference_weights(load_checkpoint(data / f"{name}.pt"))
    _, run = written(tmp_path, weights, spec, options=CoremlOptions(layout=layout))
    outputs = run(image)
    assert cosine(outputs["dense"], vectors[f"dense_{core_count}"]).mean() > 0.9995
    assert cosine(outputs["cls"], vectors[f"cls_{core_count}"]).mean() > 0.9995


@pytest.mark.parametrize("precision", ["fp16", "w8", "int8"])
def test_every_function_takes_a_frame_and_computes_the_model(apple_packages, precision):
    directory, artifacts, variants = apple_packages
    least = {"fp16": 0.9998, "w8": 0.99, "int8": 0.97}[precision]
    for artifact, variant in zip(artifacts[precision], variants[precision], strict=True):
        assert artifact.function == f"cores_{artifact.core_count}"
        run = open_mlpackage(directory / artifact.path, artifact.function, artifact)
        plain = variants["fp16"][0].weights
        for frame in frames():
            outputs, wanted = run(frame[None]), expected(plain, variant.spec, frame[None])
            assert {n: v.shape for n, v in outputs.items()} == {n: v.shape for n, v in wanted.items()}
            for name in outputs:
                assert cosine(outputs[name], wanted[name]).mean() > least


@pytest.mark.parametrize("precision", ["w8", "int8"])
def test_codes_and_scales_on_disk_are_the_recipes(apple_packages, precision):
    directory, artifacts, variants = apple_packages
    package = read_mlpackage(directory / artifacts[precision][0].path)
    for variant in variants[precision]:
        layers = quantized_layers(package.functions[f"cores_{variant.spec.core_count}"])
        for name, layer in variant.weights.linears.items():
            q, key = layer.quantization, identifier(name)
            parts = [layers[k] for k in (key, f"{key}_queries", f"{key}_keys_values") if k in layers]
            np.testing.assert_array_equal(np.concatenate([p.codes for p in parts]), q.codes)
            # A power of two moves from k to q: heads of 32 channels.
            moved = np.repeat([2, 0.5, 1], 64) if name.endswith("qkv") else 1
            np.testing.assert_array_equal(
                np.concatenate([p.weight_scale for p in parts]), (q.weight_scale * moved).astype(np.float16)
            )
            scales = {p.activation_scale for p in parts}
            assert scales == ({np.float16(q.activation_scale)} if precision == "int8" else {None})


def test_core_counts_share_their_weights(apple_packages, square, tmp_path):
    directory, artifacts, variants = apple_packages
    for precision, group in variants.items():
        alone, _ = written(tmp_path, group[-1].weights, group[-1].spec, precision)
        assert size_of(directory, artifacts[precision][0].path) < 1.05 * size_of(tmp_path, alone.path)


def test_four_core_counts_take_hardly_more_room_than_one(absmax_quantized, tmp_path):
    """The whole package of the bundled tiny model, program text included; int8 has the most text and least weights."""
    weights = inference_weights(load_checkpoint(demo_checkpoint()))
    variants = [
        Variant(
            GraphSpec(count, ImageSize(32, 32), outputs=("cls", "dense", "logits")),
            "int8",
            absmax_quantized(weights, count),
        )
        for count in (8, 16, 32, 64)
    ]
    (together, *_) = mlpackages_from_variants(variants, tmp_path, {})
    (alone,) = mlpackages_from_variants(variants[-1:], tmp_path, {})
    assert together.bytes <= 1.05 * alone.bytes


def test_conversions_leave_nothing_behind(square, tmp_path, monkeypatch):
    """coremltools has temporary packages until the process ends; a killed one would never remove them."""
    temporary, output = tmp_path / "temporary", tmp_path / "output"
    temporary.mkdir()
    output.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    weights, size = inference_weights(square), ImageSize(32, 32)
    mlpackages_from_variants([Variant(GraphSpec(count, size), "fp16", weights) for count in (8, 16)], output, {})
    assert list(temporary.iterdir()) == []
    assert [path.name for path in output.iterdir()] == ["apple"]


def test_a_package_says_what_it_is(apple_packages, square):
    directory, artifacts, _ = apple_packages
    package = read_mlpackage(directory / artifacts["int8"][0].path)
    assert package.default_function == "cores_8"
    assert package.specification_version == 9
    assert package.metadata["checkpoint_sha256"] == square.digest
    assert package.metadata["version"] == "veca-edge test"
    assert package.metadata["mean"] == "0.485 0.456 0.406"
    facts = json.loads(package.metadata["functions"])
    assert facts["cores_16"] == {"core_count": 16, "precision": "int8", "image_size": [32, 48]}
    for function in package.functions.values():
        assert [(f.name, f.kind, f.dtype, f.shape) for f in function.inputs] == [("image", "image", "RGB", (32, 48))]
        assert [(f.name, f.dtype) for f in function.outputs] == [("cls", "FLOAT16"), ("dense", "FLOAT16")]


def test_the_mac_library_reads_the_descriptions(apple_packages):
    ct = coremltools_for("test")
    directory, artifacts, _ = apple_packages
    model = ct.models.MLModel(str(directory / artifacts["fp16"][0].path), skip_model_load=True)
    assert model.short_description == "VECA vision transformer with 8, 16, 32 core tokens."
    features = model.get_spec().description.functions[1]
    assert features.name == "cores_16"
    assert "16 core tokens" in features.output[0].shortDescription
    assert "32 rows of 48 pixels" in features.input[0].shortDescription


def test_default_function_and_separate_packages(square, tmp_path):
    weights = inference_weights(square)
    variants = [Variant(GraphSpec(count, SIZE), "fp16", weights) for count in (8, 16)]
    (_, second) = mlpackages_from_variants(variants, tmp_path, {}, CoremlOptions(default_cores=16))
    assert read_mlpackage(tmp_path / second.path).default_function == "cores_16"
    separate = mlpackages_from_variants(variants, tmp_path, {}, CoremlOptions(separate=True))
    assert [a.path for a in separate] == ["apple/cores8_fp16_32x48.mlpackage", "apple/cores16_fp16_32x48.mlpackage"]
    assert {a.function for a in separate} == {None}
    batch = frames(1)
    for artifact in separate:
        run = open_mlpackage(tmp_path / artifact.path, None, artifact)
        merged = open_mlpackage(tmp_path / second.path, f"cores_{artifact.core_count}")
        np.testing.assert_array_equal(run(batch)["dense"], merged(batch)["dense"])


def test_the_same_weights_give_the_same_bytes(square, tmp_path):
    variants = [Variant(GraphSpec(count, SIZE), "fp16", inference_weights(square)) for count in (8, 16)]
    contents = []
    for directory in (tmp_path / "a", tmp_path / "b"):
        directory.mkdir()
        mlpackages_from_variants(variants, directory, {})
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        contents.append({path.relative_to(directory).as_posix(): path.read_bytes() for path in files})
    assert len(contents[0]) == 3
    assert contents[0] == contents[1]


def test_image_sizes_share_a_package_too(square, tmp_path):
    weights, sizes = inference_weights(square), (ImageSize(32, 32), ImageSize(32, 48))
    variants = [Variant(GraphSpec(8, size), "fp16", weights) for size in sizes]
    artifacts = mlpackages_from_variants(variants, tmp_path, {})
    assert [a.function for a in artifacts] == ["cores_8_32x32", "cores_8_32x48"]
    for artifact in artifacts:
        run = open_mlpackage(tmp_path / artifact.path, artifact.function, artifact)
        assert run(frames(1, artifact.image_size))["dense"].shape[1] == artifact.image_size.width // 8 * 4


@pytest.mark.parametrize("layout", ["tokens", "ane"])
def test_outputs_that_were_not_asked_for_cost_nothing(square, tmp_path, layout):
    head = classifier(np.random.default_rng(0).normal(size=(5, 64)), np.zeros(5), square.config.layers - 1)
    weights, options = inference_weights(replace(square, heads=(head,))), CoremlOptions(layout=layout)
    full, _ = written(tmp_path, weights, GraphSpec(16, SIZE), options=options)
    for output in ("cls", "dense", "logits"):
        (tmp_path / output).mkdir()
        spec = GraphSpec(16, SIZE, outputs=(output,))
        artifact, run = written(tmp_path / output, weights, spec, options=options)
        assert artifact.details["operations"]["matmul"] == full.details["operations"]["matmul"] - 2
        batch = frames(1)
        made, wanted = run(batch), expected(weights, spec, batch)
        assert list(made) == [output]
        assert cosine(made[output], wanted[output]).mean() > 0.9995


def test_a_classifier_names_its_classes(square, tmp_path):
    head = classifier(np.random.default_rng(0).normal(size=(3, 64)), np.zeros(3), square.config.layers - 1)
    weights = inference_weights(replace(square, heads=(head,)))
    specs = [GraphSpec(count, SIZE, outputs=("cls", "logits")) for count in (8, 16)]
    artifacts = mlpackages_from_variants(
        [Variant(s, "fp16", weights) for s in specs],
        tmp_path,
        {"labels": "cat\ndog\nowl"},
        CoremlOptions(classifier=True),
    )
    run = open_mlpackage(tmp_path / artifacts[1].path, artifacts[1].function)
    outputs = run(frames(1))
    likely = torch.softmax(torch.from_numpy(outputs["logits"][0]), 0).numpy()
    np.testing.assert_allclose(outputs["label_probs"], likely, atol=2e-3)
    assert outputs["label"] == ["cat", "dog", "owl"][int(likely.argmax())]


def test_layout_ane_has_no_linear_and_no_transposes_but_the_last(square, tmp_path):
    weights, spec = inference_weights(square), GraphSpec(16, SIZE)
    ordinary, _ = written(tmp_path, weights, spec)
    (tmp_path / "ane").mkdir()
    ane, _ = written(tmp_path / "ane", weights, spec, options=CoremlOptions(layout="ane"))
    operations = ane.details["operations"]
    assert "linear" not in operations
    assert operations["transpose"] == 1
    assert sum(operations.values()) < sum(ordinary.details["operations"].values())


def test_coordinates_in_float32(square, tmp_path):
    weights, spec = inference_weights(square), GraphSpec(16, SIZE)
    artifact, run = written(tmp_path, weights, spec, options=CoremlOptions(coordinates="fp32"))
    package = read_mlpackage(tmp_path / artifact.path)
    kinds = {op.type: next(iter(op.outputs.values())).dtype for op in package.functions["main"].operations}
    assert {kinds[t] for t in ("tanh", "cos", "sin")} == {"FLOAT32"}
    assert kinds["softmax"] == kinds["layer_norm"] == "FLOAT16"
    batch = frames(1)
    assert cosine(run(batch)["dense"], expected(weights, spec, batch)["dense"]).mean() > 0.9998


def test_tiny_position_weights_keep_their_bits(square, tmp_path):
    """Trained core tokens move by little; below 6e-5 FP16 has few bits left."""
    weights = inference_weights(square)
    blocks = tuple(
        b
        if b.position is None
        else replace(b, position=replace(b.position, weight=b.position.weight * 1e-4, bias=b.position.bias * 1e-4))
        for b in weights.blocks
    )
    artifact, _ = written(tmp_path, replace(weights, blocks=blocks), GraphSpec(8, SIZE))
    function = read_mlpackage(tmp_path / artifact.path).functions["main"]
    (layer,) = (op for op in function.operations if op.name == "b1_position")
    assert np.abs(function.constants[layer.inputs["weight"][0]].value).max() > 0.1


# --------------------------------------------------------------------------------------- bad input


def spec_of(**changes):
    return ExportSpec(
        **{"target": "apple", "core_counts": (8, 16), "precisions": ("int8",), "image_sizes": (SIZE,), **changes}
    )


@pytest.mark.parametrize(
    ("spec", "labels", "message"),
    [
        (spec_of(target_options=to_mapping(CoremlOptions(ios=17))), None, "int8 needs iOS 18"),
        (spec_of(precisions=("w8",), target_options=to_mapping(CoremlOptions(ios=17))), None, "w8 needs iOS 18"),
        (spec_of(precisions=("fp16",), target_options=to_mapping(CoremlOptions(ios=17))), None, "several core counts"),
        (spec_of(batch=2), None, "one frame per call"),
        (spec_of(target_options=to_mapping(CoremlOptions(default_cores=24))), None, "core count 24 is not among"),
        (spec_of(target_options=to_mapping(CoremlOptions(classifier=True))), ("a", "b"), "needs the output 'logits'"),
        (spec_of(outputs=("logits",), target_options=to_mapping(CoremlOptions(classifier=True))), None, "class names"),
        (
            spec_of(
                outputs=("logits",), batch=2, input="tensor", target_options=to_mapping(CoremlOptions(classifier=True))
            ),
            ("a", "b"),
            "one image per call",
        ),
    ],
)
def test_requests_that_cannot_be_met_are_refused_early(spec, labels, message):
    with pytest.raises(EdgeError, match=message) as raised:
        target_named("apple").check(spec, labels)
    assert raised.value.hint


@pytest.mark.parametrize("options", [{"ios": 16}, {"layout": "nchw"}, {"coordinates": "fp64"}])
def test_unknown_options_list_the_known(options):
    with pytest.raises(EdgeError, match="Known"):
        CoremlOptions(**options)


def test_ios_17_takes_fp16(square, tmp_path):
    artifact, run = written(tmp_path, inference_weights(square), GraphSpec(8, SIZE), options=CoremlOptions(ios=17))
    package = read_mlpackage(tmp_path / artifact.path)
    assert package.specification_version == 8
    assert run(frames(1))["cls"].shape == (1, 64)


def test_weights_that_overflow_fp16_name_the_layer_and_leave_nothing(square, tmp_path):
    weights = inference_weights(square)
    layer = weights.linears["blocks.1.fc1"]
    large = weights.with_linears({layer.name: replace(layer, weight=layer.weight * 1e7)})
    with pytest.raises(EdgeError, match=r"blocks\.1\.fc1.*FP16"):
        written(tmp_path, large, GraphSpec(8, SIZE))
    assert not list(tmp_path.rglob("*.mlpackage"))


def test_a_quantization_scale_that_vanishes_in_fp16_names_the_layer(square, tmp_path, absmax_quantized):
    weights = absmax_quantized(inference_weights(square), 8)
    layer = weights.linears["blocks.0.out"]
    q = replace(layer.quantization, weight_scale=layer.quantization.weight_scale * 1e-9)
    with pytest.raises(EdgeError, match=r"blocks\.0\.out.*zero"):
        written(
            tmp_path, weights.with_linears({layer.name: replace(layer, quantization=q)}), GraphSpec(8, SIZE), "int8"
        )
