"""Real compiles with NVIDIA's builder; skipped where tensorrt-rtx is not installed (it is x86-64 Linux only)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from veca_edge.base.errors import EdgeError, MissingDependency
from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.converters.tensorrt import rtx
from veca_edge.converters.tensorrt.dialects import tensorrt_models_from_variants
from veca_edge.converters.tensorrt.options import TensorrtOptions
from veca_edge.converters.tensorrt.rtx import compile_with_rtx, rtx_is_installed
from veca_edge.model.folding import LinearQuantization, inference_weights
from veca_edge.model.plan import Variant

needs_rtx = pytest.mark.skipif(not rtx_is_installed(), reason="tensorrt-rtx is not installed")


def layer(path, zero: int = 0, columns: object = 32):
    """A quantized layer `[columns, 32] x [32, 32]`."""
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="dequantize"),
            helper.make_node("DequantizeLinear", ["w", "ws"], ["wd"], name="weight", axis=1),
            helper.make_node("MatMul", ["d", "wd"], ["y"], name="product"),
        ],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [columns, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [columns, 32])],
        [
            numpy_helper.from_array(np.float16(0.1), "s"),
            numpy_helper.from_array(np.int8(zero), "z"),
            numpy_helper.from_array(np.ones((32, 32), np.int8), "w"),
            numpy_helper.from_array(np.full(32, 0.1, np.float16), "ws"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


@needs_rtx
def test_a_legal_file(tmp_path):
    report = compile_with_rtx(layer(tmp_path / "it's a layer.onnx"))
    assert report.compiler.startswith("tensorrt-rtx 1.")
    assert report.warnings == ()
    assert report.layers > 3
    assert report.plan_bytes > 0
    assert "SM86" in report.compute_capabilities


@needs_rtx
def test_profiles_of_a_dynamic_file(tmp_path):
    path = layer(tmp_path / "dynamic.onnx", columns="n")
    points = [{"x": ((n, 32),) * 3} for n in (8, 16)]
    assert compile_with_rtx(path, points).profiles == 2
    with pytest.raises(EdgeError, match="refuses"):
        compile_with_rtx(path)


@needs_rtx
def test_what_the_parser_refuses_names_the_node(tmp_path):
    with pytest.raises(EdgeError, match=r"illegal\.onnx.*node 'quantize' \(QuantizeLinear\).*zero point"):
        compile_with_rtx(layer(tmp_path / "illegal.onnx", zero=3))
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(b"rubbish")
    for path in (rubbish, tmp_path / "missing.onnx"):
        with pytest.raises(EdgeError, match=path.name):
            compile_with_rtx(path)


@needs_rtx
def test_a_builder_that_dies(tmp_path, monkeypatch):
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\necho out of memory\nkill -9 $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr(rtx.sys, "executable", str(killer))
    with pytest.raises(EdgeError, match=r"killed by signal 9[^$]*out of memory"):
        compile_with_rtx(layer(tmp_path / "layer.onnx"))


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(rtx, "PACKAGE", "no_such_package")
    with pytest.raises(MissingDependency, match="tensorrt-rtx"):
        compile_with_rtx(layer(tmp_path / "layer.onnx"))


@needs_rtx
def test_every_strongly_typed_file_is_compiled(square, tmp_path):
    tiny = inference_weights(square)
    quantized = tiny.with_linears(
        {
            name: replace(
                layer,
                quantization=LinearQuantization(
                    np.sign(layer.weight).astype(np.int8), np.full(len(layer.bias), 0.02, np.float32), 0.05
                ),
            )
            for name, layer in tiny.linears.items()
        }
    )
    spec = GraphSpec(16, ImageSize(32, 32))
    variants = [
        Variant(spec, "int8", quantized),
        Variant(spec, "fp16", tiny),
        Variant(spec, "fp32", tiny),
        Variant(GraphSpec(8, ImageSize(32, 48), batch=2, input="tensor"), "int8", quantized),
        Variant(GraphSpec(8, ImageSize(32, 32), input="planar"), "int8", quantized),
        Variant(GraphSpec(8, ImageSize(32, 32), input="planar"), "fp32", tiny),
    ]
    for artifact in tensorrt_models_from_variants(variants, tmp_path, {}, TensorrtOptions("10.3")):
        assert artifact.details["compile"]["warnings"] == []
        assert artifact.details["compile"]["plan_bytes"] > 0
    (old,) = tensorrt_models_from_variants(variants[:1], tmp_path / "old", {}, TensorrtOptions("8.6"))
    assert "strongly typed" in old.details["compile_skipped"]
    # Its graph is legal all the same.
    assert compile_with_rtx(tmp_path / "old" / old.path).warnings == ()
