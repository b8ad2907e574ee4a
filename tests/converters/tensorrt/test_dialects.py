"""TensorRT's dialects: what is in the files, and what ONNX Runtime computes from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.converters.tensorrt.dialects import tensorrt_models_from_variants
from veca_edge.converters.tensorrt.options import TensorrtOptions
from veca_edge.model.checkpoint import random_checkpoint
from veca_edge.model.config import ModelConfig
from veca_edge.model.folding import InferenceWeights, LinearQuantization, inference_weights
from veca_edge.model.plan import Variant
from veca_edge.model.torch_graph import InferenceModel
from veca_edge.rules.tensorrt.lint import lint_onnx
from veca_edge.targets.jetson import open_onnx

SIZE = ImageSize(32, 32)
VERSIONS = ("8.5", "8.6", "10.3", "10.13", "11.0")
UNCOMPILED = {version: TensorrtOptions(version, compile=False) for version in VERSIONS}


def quantized_by_range(weights: InferenceWeights, scale: float = 0.05) -> InferenceWeights:
    def quantized(layer):
        steps = np.maximum(np.abs(layer.weight).max(1) / 127, 1e-12).astype(np.float32)
        codes = np.clip(np.rint(layer.weight / steps[:, None]), -127, 127).astype(np.int8)
        return replace(layer, quantization=LinearQuantization(codes, steps, scale))

    return weights.with_linears({name: quantized(layer) for name, layer in weights.linears.items()})


def write(variant: Variant, directory, version: str = "10.3"):
    (artifact,) = tensorrt_models_from_variants([variant], directory, {"labels": "a,b"}, UNCOMPILED[version])
    return artifact, onnx.load(directory / artifact.path)


def run(directory, artifact, batch: np.ndarray) -> list[np.ndarray]:
    return list(open_onnx(directory, artifact, threads=1)(batch).values())


def an_input(spec: GraphSpec) -> np.ndarray:
    rng = np.random.default_rng(0)
    if spec.input == "image":
        return rng.integers(0, 256, (spec.batch, *spec.image_size, 3), dtype=np.uint8)
    if spec.input == "planar":
        return rng.uniform(0, 255, (spec.batch, 3, *spec.image_size)).astype(np.float32)
    return rng.standard_normal((spec.batch, 3, *spec.image_size)).astype(np.float32)


def simulated(weights: InferenceWeights, spec: GraphSpec, batch: np.ndarray) -> list[np.ndarray]:
    with torch.inference_mode():
        return [value.numpy() for value in InferenceModel(weights, spec)(torch.from_numpy(batch))]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def tiny(short_demo):
    return inference_weights(short_demo)


@pytest.mark.parametrize(
    ("version", "precision"),
    [("8.5", "int8"), ("8.5", "fp16"), ("8.6", "int8"), ("10.3", "int8"), ("10.3", "fp16"), ("10.3", "fp32")],
)
@pytest.mark.parametrize(
    "spec",
    [
        GraphSpec(16, SIZE, outputs=("cls", "dense", "logits")),
        GraphSpec(8, ImageSize(32, 48), batch=2, input="tensor"),
        GraphSpec(8, SIZE, input="planar", outputs=("cls", "dense", "logits")),
        GraphSpec(64, SIZE, outputs=("cls",)),
        GraphSpec(24, SIZE, outputs=("dense",)),
    ],
    ids=["image", "tensor, batch 2", "planar", "cls only", "dense only"],
)
def test_the_very_file_computes_the_model(tiny, tmp_path, version, spec, precision):
    weights = quantized_by_range(tiny) if precision == "int8" else tiny
    artifact, _ = write(Variant(spec, precision, weights), tmp_path, version)
    assert lint_onnx(tmp_path / artifact.path, version) == []
    batch = an_input(spec)
    wanted = simulated(weights, spec, batch)
    for made, value in zip(run(tmp_path, artifact, batch), wanted, strict=True):
        assert made.dtype == np.float32
        # INT8: the same integers, but rounding flips a few codes. FP16: ten bits.
        if precision == "fp32":
            assert np.abs(made - value).max() < 1e-4
        else:
            assert cosine(made, value) > (0.999 if precision == "int8" else 0.99999)


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3"])
def test_norms_keep_what_smoothing_leaves_of_their_gains(tiny, tmp_path, version):
    """Written out, as TensorRT 8.5 needs it, a norm ends with a product that smoothing might have left there."""
    rng = np.random.default_rng(0)

    def smoothed(block):
        gains = rng.uniform(0.5, 2, (2, tiny.config.hidden)).astype(np.float32)
        qkv, fc1 = (replace(x, weight=x.weight / g) for x, g in zip((block.qkv, block.fc1), gains, strict=True))
        return replace(block, attn_gain=gains[0], ffn_gain=gains[1], qkv=qkv, fc1=fc1)

    weights = quantized_by_range(replace(tiny, blocks=tuple(map(smoothed, tiny.blocks))))
    spec = GraphSpec(16, SIZE)
    artifact, model = write(Variant(spec, "int8", weights), tmp_path, version)
    assert lint_onnx(model, version) == []
    batch = an_input(spec)
    for made, wanted in zip(run(tmp_path, artifact, batch), simulated(weights, spec, batch), strict=True):
        assert cosine(made, wanted) > 0.999


def test_integers_of_the_file_are_those_of_the_recipe(tiny, tmp_path):
    """A weight that TensorRT 8 quantizes itself comes out as the very codes."""
    weights = quantized_by_range(tiny)
    codes = weights.linears["blocks.1.fc2"].quantization.codes
    for version in ("8.5", "8.6", "10.3"):
        _, model = write(Variant(GraphSpec(8, SIZE), "int8", weights), tmp_path / version, version)
        arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        if version == "10.3":
            made = arrays["blocks.1.fc2.codes"].T
        else:
            made = np.rint(arrays["blocks.1.fc2.weight"] / arrays["blocks.1.fc2.weight_scale"][:, None])
        assert np.array_equal(made, codes)


@pytest.mark.parametrize("version", ["8.6", "10.3"])
def test_one_pair_on_each_input(tiny, tmp_path, version):
    _, model = write(Variant(GraphSpec(16, SIZE), "int8", quantized_by_range(tiny)), tmp_path, version)
    constants = {t.name for t in model.graph.initializer}
    readers = Counter(name for n in model.graph.node for name in n.input)
    producers = {name: n for n in model.graph.node for name in n.output}
    pairs = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants]
    layers = tiny.config.layers
    assert len(pairs) == 4 * layers
    assert len({n.input[0] for n in pairs}) == len(pairs)
    dequantized = [
        n for n in model.graph.node if n.op_type == "DequantizeLinear" and producers.get(n.input[0]) in pairs
    ]
    assert Counter(readers[n.output[0]] for n in dequantized) == {3: layers, 2: layers, 1: 2 * layers}
    # q, k, v, out, gate, value and fc2 of every block read nothing but dequantized values.
    linear = [
        n
        for n in model.graph.node
        if n.op_type == "MatMul"
        and n.name.startswith("blocks.")
        and n.name.split(".")[2] in ("q", "k", "v", "out", "fc1", "fc2")
    ]
    assert len(linear) == 7 * layers
    assert all(producers[n.input[0]] in dequantized for n in linear)


def test_types_of_tensorrt_10(tiny, tmp_path):
    artifact, model = write(Variant(GraphSpec(16, SIZE), "int8", quantized_by_range(tiny)), tmp_path)
    kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    for n in model.graph.node:
        if n.op_type in ("LayerNormalization", "Softmax", "QuantizeLinear"):
            assert kinds.get(n.input[0]) == onnx.TensorProto.FLOAT16
        if n.op_type in ("Tanh", "Cos", "Sin"):
            assert kinds[n.output[0]] == onnx.TensorProto.FLOAT
    operators = Counter(n.op_type for n in model.graph.node)
    # Bytes in, float32 out twice, and three for the coordinates of every block but the first.
    assert operators["Cast"] == 3 + 3 * (tiny.config.layers - 1) == artifact.details["casts"] <= 40
    assert operators["LayerNormalization"] > 2 * tiny.config.layers
    assert not operators["Sqrt"]
    assert model.opset_import[0].version == 20
    assert artifact.details["build_flags"] == ["--stronglyTyped", "--noTF32"]
    assert {p.key: p.value for p in model.metadata_props} == {
        "labels": "a,b",
        "core_count": "16",
        "precision": "int8",
        "tensorrt": "10.3",
    }


def test_forms_of_tensorrt_8(tiny, tmp_path):
    weights = quantized_by_range(tiny)
    for version, opset in (("8.5", 16), ("8.6", 17)):
        artifact, model = write(Variant(GraphSpec(16, SIZE), "int8", weights), tmp_path / version, version)
        operators = Counter(n.op_type for n in model.graph.node)
        assert (model.opset_import[0].version, model.ir_version) == (opset, 8)
        assert bool(operators["LayerNormalization"]) == (version == "8.6")
        assert bool(operators["Sqrt"]) == (version == "8.5")
        assert operators["Cast"] == 1
        flags = artifact.details["build_flags"]
        assert flags[:3] == ["--int8", "--fp16", "--precisionConstraints=obey"]
        constrained = {pair.rsplit(":", 1)[0] for pair in flags[3].removeprefix("--layerPrecisions=").split(",")}
        of_op = {op: {n.name for n in model.graph.node if n.op_type == op} for op in operators}
        assert of_op["Tanh"] | of_op["Cos"] | of_op["Sin"] <= constrained
        assert of_op.get("Sqrt", set()) <= constrained
        assert not constrained & of_op["Softmax"]
        assert constrained <= {n.name for n in model.graph.node}


@pytest.mark.parametrize(
    ("version", "precision", "flags"),
    [
        ("8.6", "fp32", ["--noTF32"]),
        ("10.13", "fp32", ["--stronglyTyped", "--noTF32"]),
        ("11.0", "fp16", ["--stronglyTyped", "--noTF32"]),
    ],
)
def test_build_flags(tiny, tmp_path, version, precision, flags):
    artifact, _ = write(Variant(GraphSpec(8, SIZE), precision, tiny), tmp_path, version)
    assert artifact.details["build_flags"] == flags
    assert artifact.details["compile_skipped"] == "not asked for"


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3"])
def test_an_output_projection(wide_projected, tmp_path, version):
    """In a random model, a code that FP16 flips early changes much: as written, files for TensorRT 8 are float32."""
    weights = quantized_by_range(inference_weights(wide_projected))
    spec = GraphSpec(16, ImageSize(32, 40))
    artifact, model = write(Variant(spec, "int8", weights), tmp_path, version)
    batch, least = an_input(spec), {"half": 0.98}
    made = {"half": run(tmp_path, artifact, batch)}
    if version != "10.3":
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        made["as written"], least["as written"] = session.run(None, {"image": batch}), 0.9999
    for how, values in made.items():
        for value, wanted in zip(values, simulated(weights, spec, batch), strict=True):
            assert cosine(np.asarray(value), wanted) > least[how]


def test_tiny_scales_stay_normal_numbers(tiny, tmp_path):
    """A channel whose scale FP16 holds only as a subnormal number gets a larger scale and smaller codes."""
    layer = tiny.linears["blocks.0.fc2"]
    weight = layer.weight.copy()
    weight[3] *= 0.004 / np.abs(weight[3]).max()
    weight[4] = 0
    weights = quantized_by_range(tiny.with_linears({layer.name: replace(layer, weight=weight)}))
    q = weights.linears[layer.name].quantization
    _, model = write(Variant(GraphSpec(8, SIZE), "int8", weights), tmp_path)
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    scale, codes = arrays["blocks.0.fc2.weight_scale"].astype(np.float32), arrays["blocks.0.fc2.codes"].T
    assert scale.min() == np.finfo(np.float16).smallest_normal
    assert np.abs(codes[3] * scale[3] - weight[3]).max() <= scale[3] / 2 + q.weight_scale[3]
    assert not codes[4].any()


def test_what_fp16_cannot_hold_is_named(tiny, tmp_path):
    layer = tiny.linears["blocks.1.fc1"]
    large = tiny.with_linears({layer.name: replace(layer, weight=layer.weight * 1e6)})
    with pytest.raises(EdgeError, match=r"blocks\.1\.fc1.*65504"):
        write(Variant(GraphSpec(8, SIZE), "fp16", large), tmp_path)
    write(Variant(GraphSpec(8, SIZE), "fp32", large), tmp_path)


def test_impossible_requests(tiny, tmp_path):
    with pytest.raises(EdgeError, match=r"8\.4"):
        TensorrtOptions("8.4")
    with pytest.raises(EdgeError, match="latest"):
        TensorrtOptions("latest")
    with pytest.raises(EdgeError, match="12 cores"):
        write(Variant(GraphSpec(12, SIZE), "fp16", tiny), tmp_path)


def test_the_released_small_model_keeps_to_forty_casts(tmp_path):
    config = ModelConfig(64, 2, 12, 96, 16, 64, 8, 64)  # as deep as `small`, but narrow
    weights = quantized_by_range(inference_weights(random_checkpoint(config)))
    artifact, _ = write(Variant(GraphSpec(16, ImageSize(64, 64)), "int8", weights), tmp_path)
    assert artifact.details["casts"] == 36


def test_progress_is_reported(tiny, tmp_path):
    seen = []
    variants = [Variant(GraphSpec(count, SIZE), "fp16", tiny) for count in (8, 16)]
    artifacts = tensorrt_models_from_variants(
        variants, tmp_path, {}, UNCOMPILED["10.3"], lambda *step: seen.append(step)
    )
    assert [a.path for a in artifacts] == ["models/cores8_fp16_32x32.onnx", "models/cores16_fp16_32x32.onnx"]
    assert ("writing models", 2, 2) in seen
