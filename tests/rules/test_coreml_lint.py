"""The Core ML linter: silent on our packages, and every rule found where it is broken."""

from __future__ import annotations

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.converters.coreml.options import CoremlOptions
from veca_edge.converters.coreml.packages import mlpackages_from_variants
from veca_edge.formats.coremltools_library import converting, coremltools_for
from veca_edge.formats.mlpackage import read_mlpackage, specification_path
from veca_edge.model.folding import inference_weights
from veca_edge.model.plan import Variant
from veca_edge.rules.coreml import lint_mlpackage


@pytest.mark.parametrize("precision", ["fp16", "w8", "int8"])
def test_our_packages_break_no_rule(apple_packages, precision):
    directory, artifacts, _ = apple_packages
    path = directory / artifacts[precision][0].path
    assert lint_mlpackage(path) == []
    ranks = {
        len(kind.shape)
        for function in read_mlpackage(path).functions.values()
        for op in function.operations
        for kind in op.outputs.values()
    }
    assert max(ranks) == 4


def test_the_ane_layout_breaks_no_rule(square, tmp_path):
    (artifact,) = mlpackages_from_variants(
        [Variant(GraphSpec(8, ImageSize(32, 32)), "fp16", inference_weights(square))],
        tmp_path,
        {},
        CoremlOptions(layout="ane"),
    )
    assert lint_mlpackage(tmp_path / artifact.path) == []


def test_float32_coordinates_and_tensor_input_are_named(square, tmp_path):
    variant = Variant(GraphSpec(8, ImageSize(32, 32), input="tensor"), "fp16", inference_weights(square))
    (artifact,) = mlpackages_from_variants([variant], tmp_path, {}, CoremlOptions(coordinates="fp32"))
    found = {f.rule: f for f in lint_mlpackage(tmp_path / artifact.path)}
    assert set(found) == {"float32", "image-input"}
    assert "b1_" in found["float32"].node


def lint_program(tmp_path, write, shape=(1, 3, 4, 6), ios=18):
    ct = coremltools_for("test")
    from coremltools.converters.mil import Builder as mb

    target = getattr(ct.target, f"iOS{ios}")
    program = mb.program(input_specs=[mb.TensorSpec(shape)], opset_version=target)(lambda x: write(mb, x))
    with converting(tmp_path):
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=target,
            skip_model_load=True,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
        )
        model.save(str(tmp_path / "p.mlpackage"))
    return [f for f in lint_mlpackage(tmp_path / "p.mlpackage") if f.rule != "image-input"]


def fp16(mb, x):
    return mb.cast(x=x, dtype="fp16")


def big(seed, shape=(32, 32)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float16)


@pytest.mark.parametrize(
    ("rule", "write"),
    [
        ("operator", lambda mb, x: mb.cast(x=mb.gather(x=fp16(mb, x), indices=[0, 2], axis=1), dtype="fp32")),
        ("operator", lambda mb, x: mb.cast(x=mb.cumsum(x=fp16(mb, x), axis=1), dtype="fp32")),
        ("rank", lambda mb, x: mb.cast(x=mb.expand_dims(x=fp16(mb, x), axes=[0]), dtype="fp32")),
        ("integer-tensor", lambda mb, x: mb.cast(x=mb.cast(x=x, dtype="int32"), dtype="fp32")),
        ("float32", lambda mb, x: mb.add(x=x, y=np.float32(1))),
        (
            "subnormal",
            lambda mb, x: mb.cast(x=mb.mul(x=fp16(mb, x), y=np.full((3, 4, 6), 1e-6, np.float16)), dtype="fp32"),
        ),
        (
            "finite-weights",
            lambda mb, x: mb.cast(x=mb.add(x=fp16(mb, x), y=np.full((3, 4, 6), np.inf, np.float16)), dtype="fp32"),
        ),
        (
            "per-channel-scale",
            lambda mb, x: mb.cast(
                x=mb.linear(
                    x=fp16(mb, x),
                    weight=mb.constexpr_blockwise_shift_scale(
                        data=np.ones((4, 6), np.int8), scale=np.ones((4, 2), np.float16)
                    ),
                ),
                dtype="fp32",
            ),
        ),
        (
            "zero-point",
            lambda mb, x: mb.cast(
                x=mb.dequantize(
                    input=mb.quantize(
                        input=fp16(mb, x), scale=np.float16(0.1), zero_point=np.int8(3), output_dtype="int8"
                    ),
                    scale=np.float16(0.1),
                    zero_point=np.int8(3),
                ),
                dtype="fp32",
            ),
        ),
        (
            "shared-weights",
            lambda mb, x: mb.cast(
                x=mb.matmul(x=mb.matmul(x=mb.reshape(x=fp16(mb, x), shape=[1, 32]), y=big(0)), y=big(0)), dtype="fp32"
            ),
        ),
    ],
)
def test_each_rule_is_found_where_it_is_broken(tmp_path, rule, write):
    shape = (1, 32) if rule == "shared-weights" else (1, 3, 4, 6)
    findings = lint_program(tmp_path, write, shape)
    assert {f.rule for f in findings} == {rule}
    assert all(f.message and f.why and f.source and f.node for f in findings)


def test_int8_weights_as_ios_16_writes_them(tmp_path):
    def write(mb, x):
        weight = mb.constexpr_affine_dequantize(
            quantized_data=np.ones((4, 6), np.int8), zero_point=np.int8(0), scale=np.ones(4, np.float16), axis=0
        )
        return mb.cast(x=mb.linear(x=fp16(mb, x), weight=weight), dtype="fp32")

    (finding,) = lint_program(tmp_path, write, ios=17)
    assert (finding.rule, "iOS 18" in finding.why) == ("operator", True)


def test_a_deployment_target_that_is_too_old(apple_packages, tmp_path):
    import shutil

    from coremltools.proto import Model_pb2

    directory, artifacts, _ = apple_packages
    path = tmp_path / "old.mlpackage"
    shutil.copytree(directory / artifacts["w8"][0].path, path)
    model = Model_pb2.Model.FromString(specification_path(path).read_bytes())
    model.specificationVersion = 8
    specification_path(path).write_bytes(model.SerializeToString())
    findings = lint_mlpackage(path)
    assert {f.rule for f in findings} == {"deployment-target"}
    assert "several functions" in findings[0].message


def test_functions_whose_weights_differ(square, absmax_quantized, tmp_path):
    from dataclasses import replace

    weights = inference_weights(square)
    layer = weights.linears["blocks.1.fc1"]
    other = weights.with_linears({layer.name: replace(layer, weight=layer.weight * 1.01)})
    size = ImageSize(32, 32)
    variants = [Variant(GraphSpec(8, size), "fp16", weights), Variant(GraphSpec(16, size), "fp16", other)]
    artifacts = mlpackages_from_variants(variants, tmp_path, {})
    (finding,) = lint_mlpackage(tmp_path / artifacts[0].path)
    assert (finding.rule, finding.node) == ("shared-weights", "b1_fc1")
    assert "cores_8, cores_16" in finding.message


def test_what_is_no_package(tmp_path):
    with pytest.raises(EdgeError, match="does not exist"):
        lint_mlpackage(tmp_path / "nothing.mlpackage")
