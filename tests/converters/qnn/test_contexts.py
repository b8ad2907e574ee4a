"""Context binaries for Snapdragons' NPUs. Qualcomm's compiler and emulation are the real ones; the model is tiny."""

import json
import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from veca_edge.base.errors import EdgeError, GateError, MissingDependency
from veca_edge.base.spec import ExportSpec, GraphSpec, ImageSize
from veca_edge.converters.onnx.graph import onnx_from_veca
from veca_edge.converters.qnn import contexts
from veca_edge.converters.qnn.contexts import (
    CompilerCost,
    check_emulation,
    check_export,
    compile_contexts,
    emulated,
    sources_of,
)
from veca_edge.converters.qnn.dialect import A8W8, A16W8, QnnDialect
from veca_edge.converters.qnn.options import SnapdragonOptions
from veca_edge.devices.android.socs import SOCS
from veca_edge.model.folding import inference_weights
from veca_edge.model.plan import Variant
from veca_edge.rules.qnn import lint_model, lint_onnx

SIZE = ImageSize(32, 48)
COMPILER = pytest.mark.skipif(
    contexts.find_spec("onnxruntime_qnn") is None, reason="needs onnxruntime-qnn: pip install 'veca-edge[snapdragon]'"
)


def with_peaks(weights):
    """INT8 weights with peaks: of the input by its scale, of the outputs by the weights' own lengths."""
    linears = {}
    for name, layer in weights.linears.items():
        q = layer.quantization
        peak = 127 * q.activation_scale
        outputs = (peak * np.abs(layer.weight).sum(1) / 2).astype(np.float32)
        linears[name] = replace(layer, quantization=replace(q, input_peak=peak, output_peak=outputs))
    return weights.with_linears(linears)


@pytest.fixture(scope="module")
def variants(square, absmax_quantized):
    weights, spec = inference_weights(square), GraphSpec(8, SIZE)
    return [Variant(spec, "int8", with_peaks(absmax_quantized(weights, 8))), Variant(spec, "fp16", weights)]


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_every_linear_layer_stands_between_codes(variants):
    for dialect, kind in ((A16W8, ir.DataType.UINT16), (A8W8, ir.DataType.UINT8)):
        model = onnx_from_veca(variants[0].weights, variants[0].spec, dialect, {})
        products = [
            n
            for n in model.graph
            if n.op_type == "MatMul"
            and n.inputs[1].producer() is not None
            and n.inputs[1].producer().op_type == "DequantizeLinear"
        ]
        # q, k, v, out, gate, value, fc2 of three blocks
        assert len(products) == 21
        for node in products:
            (after,) = node.outputs[0].consumers()
            assert after.op_type == "QuantizeLinear"
            assert after.inputs[2].const_value.dtype == kind
            assert node.inputs[0].producer().op_type == "DequantizeLinear"
        assert "Cast" not in operators(model)
    plain = operators(onnx_from_veca(variants[1].weights, variants[1].spec, QnnDialect, {}))
    assert plain.count("DequantizeLinear") == 1
    assert "QuantizeLinear" not in plain


def test_a_recipe_without_peaks_is_refused(square, absmax_quantized):
    weights = absmax_quantized(inference_weights(square), 8)
    for dialect in (A16W8, A8W8):
        with pytest.raises(EdgeError, match="recipe does not say how large"):
            onnx_from_veca(weights, GraphSpec(8, SIZE), dialect, {})


def test_a_cast_of_the_image_is_found(variants, tmp_path):
    class Careless(QnnDialect):
        def floats(self, image):
            return super(QnnDialect, self).floats(image)

    wrong = onnx_from_veca(variants[1].weights, variants[1].spec, Careless, {})
    (finding,) = lint_model(wrong)
    assert finding.rule == "image-cast"
    ir.save(wrong, tmp_path / "wrong.onnx")
    assert [f.rule for f in lint_onnx(tmp_path / "wrong.onnx")] == ["image-cast"]
    assert not lint_model(onnx_from_veca(variants[1].weights, variants[1].spec, QnnDialect, {}))
    (tmp_path / "no.onnx").write_bytes(b"no")
    with pytest.raises(EdgeError, match="cannot be read as an ONNX model"):
        lint_onnx(tmp_path / "no.onnx")


def test_options():
    with pytest.raises(EdgeError, match="Unknown Snapdragon 'SM1'") as error:
        SnapdragonOptions(npu=("SM1",))
    assert all(name in error.value.hint for name in SOCS)
    with pytest.raises(EdgeError, match="NPU precision 'int4'"):
        SnapdragonOptions(("SM8650",), ("int4",))
    with pytest.raises(EdgeError, match="without --npu"):
        SnapdragonOptions(npu_precision=("a16w8",))


def test_what_can_t_be_compiled_here_is_refused_first(monkeypatch):
    def spec(*precisions):
        return ExportSpec("android", (8,), precisions, (SIZE,))

    check_export(spec("int8"), SnapdragonOptions())
    monkeypatch.setattr(contexts, "find_spec", lambda name: object())
    monkeypatch.setattr(contexts.platform, "system", lambda: "Linux")
    monkeypatch.setattr(contexts.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(contexts.sys, "version_info", (3, 11, 0))
    fp16, a16w8 = SnapdragonOptions(("SM8650",)), SnapdragonOptions(("SM8650",), ("a16w8",))
    check_export(spec("fp16"), fp16)
    check_export(spec("int8", "fp32"), a16w8)
    check_export(spec("int8"), fp16)
    check_export(spec("int8"), a16w8)
    with pytest.raises(EdgeError, match="a16w8 is written from INT8 weights, and this export makes none") as error:
        check_export(spec("fp16"), a16w8)
    assert error.value.hint == "Give --precision int8,fp16, or --npu-precision fp16."
    monkeypatch.setattr(contexts, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"veca-edge\[snapdragon\]"):
        check_export(spec("fp16"), fp16)
    monkeypatch.setattr(contexts.platform, "machine", lambda: "aarch64")
    with pytest.raises(EdgeError, match="this is Linux on aarch64"):
        check_export(spec("fp16"), fp16)


def test_fp16_is_written_from_the_weights_that_are_there(variants, square):
    integer, floating = variants
    options = SnapdragonOptions(("SM8650",), ("fp16", "a16w8"))
    second = replace(floating, precision="fp32")
    assert sources_of([integer, floating, second], options) == [(floating, "fp16"), (integer, "a16w8")]
    assert sources_of([integer], options) == [(integer, "fp16"), (integer, "a16w8")]
    # What is written from INT8's variant has no code in it, and the trained weights but for what smoothing moved.
    model = onnx_from_veca(integer.weights, integer.spec, QnnDialect, {})
    assert "QuantizeLinear" not in operators(model)
    assert not [v.name for v in model.graph.initializers.values() if v.dtype == ir.DataType.INT8]


@COMPILER
def test_compiled_whole_and_emulated(variants, tmp_path):
    options = SnapdragonOptions(("SM8750",), ("fp16", "a16w8"))
    found = compile_contexts(variants[:1], tmp_path, {"producer": "test"}, options)
    assert {name: [f["precision"] for f in files] for name, files in found.items()} == {
        "cores8_int8_32x48": ["fp16", "a16w8"]
    }
    for one in (f for files in found.values() for f in files):
        assert one["placement"]["cpu"] == 0 < one["placement"]["htp"]
        assert one["sdk"].startswith("QAIRT ")
        assert (tmp_path / one["path"]).stat().st_size == one["bytes"]
    # Several: of one frame alone a processor's own rounding decides between 0.99800 and 0.99799.
    frames = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)
    for one, least in zip(found["cores8_int8_32x48"], (0.9999, 0.998), strict=True):
        # Against the variant that neither was written from.
        alike, cost = emulated(tmp_path / one["path"], SOCS["SM8750"], variants[1], frames)
        assert cost.seconds > 0
        assert min(cost.peak_memory_bytes, one["compile_peak_bytes"]) > 30e6
        assert set(alike) == {"cls", "dense"}
        assert min(alike.values()) >= least


@COMPILER
def test_an_operator_that_stays_on_the_cpu_is_named(variants, tmp_path, monkeypatch):
    class Strange(QnnDialect):
        def output(self, x):
            return self.g("Atanh", x)

    monkeypatch.setitem(contexts._DIALECTS, "fp16", Strange)
    with pytest.raises(EdgeError, match=r"does not take the whole graph for SM8650: it leaves .*Atanh") as error:
        compile_contexts(variants, tmp_path, {}, SnapdragonOptions(("SM8650",)))
    assert "--outputs" in error.value.hint
    assert not list(tmp_path.rglob("*.onnx"))


def test_the_gate_and_the_record(variants, tmp_path, monkeypatch, tflite_files):
    _, artifacts, _ = tflite_files
    (tmp_path / "npu").mkdir()
    one = {"path": "npu/SM8650/x.onnx", "soc": "SM8650"}
    artifact = replace(artifacts["fp16"][0], details={"npu": [one]})
    frames = {SIZE: np.zeros((4, *SIZE, 3), np.uint8)}
    alike = {"cls": 0.9991, "dense": 0.98}
    monkeypatch.setattr(contexts, "emulated", lambda *given: (alike, CompilerCost(2.5, 1 << 20)))
    with pytest.raises(GateError, match=r"gives 'dense' with a likeness of 0\.9800 .* below 0\.99") as error:
        check_emulation(tmp_path, [artifact], variants, frames, 0.99)
    assert "--min-cosine" in error.value.hint
    monkeypatch.setattr(contexts, "emulated", lambda *given: ({**alike, "depth": math.nan}, CompilerCost(2.5, 1)))
    with pytest.raises(GateError, match="gives 'depth' with a likeness of nan"):
        check_emulation(tmp_path, [artifact], variants, frames, 0.9)
    monkeypatch.setattr(contexts, "emulated", lambda *given: (alike, CompilerCost(2.5, 1 << 20)))
    check_emulation(tmp_path, [artifact], variants, frames, 0.9)
    assert json.loads((tmp_path / "npu/emulation.json").read_text()) == [
        {"path": one["path"], "frames": 2, "likeness": alike, "seconds": 2.5, "peak_memory_bytes": 1 << 20}
    ]
