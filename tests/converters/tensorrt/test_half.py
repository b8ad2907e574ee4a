"""Files that are FP16 on a board, as ONNX Runtime computes them on a CPU once their rounding is written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.bundle.details import TensorrtDetails
from veca_edge.converters.tensorrt.dialects import tensorrt_models_from_variants
from veca_edge.converters.tensorrt.half import computes_in_half, float32_layers, rounded_to_half
from veca_edge.converters.tensorrt.options import TensorrtOptions
from veca_edge.model.folding import inference_weights
from veca_edge.model.plan import Variant
from veca_edge.targets.jetson import open_onnx

F16, F32, U8 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.UINT8
TYPED = TensorrtDetails(strongly_typed=True)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], name=f"n_{output}", **attributes)


def saved(path, nodes, constants, x=(F32, (2, 3)), y=(F32, (2, 3))):
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", *x)],
        [helper.make_tensor_value_info("y", *y)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def run(model: bytes, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    (y,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})
    return np.asarray(y)


def half(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def test_every_result_is_rounded(tmp_path):
    """Bit by bit what numpy gives when it rounds after every operator."""
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((3, 3)).astype(np.float16), rng.standard_normal(3).astype(np.float16)
    nodes = [
        node("Cast", "x", "h", to=F16),
        node("MatMul", "h w", "m"),
        node("Add", "m b", "a"),
        node("Sigmoid", "a", "s"),
        node("Mul", "a s", "g"),
        node("Transpose", "g", "t", perm=[1, 0]),
        node("Transpose", "t", "u", perm=[1, 0]),
        node("Cast", "u", "y", to=F32),
    ]
    path = saved(tmp_path / "m.onnx", nodes, {"w": w, "b": b})
    x = rng.standard_normal((2, 3)).astype(np.float32)
    a = half(half(half(x) @ w.astype(np.float32)) + b.astype(np.float32))
    gated = half(a * half(1 / (1 + np.exp(-a))))
    made = run(rounded_to_half(path, TYPED), x)
    np.testing.assert_array_equal(made, gated)
    # The file itself is computed without.
    assert not np.array_equal(run(path.read_bytes(), x), gated)


def test_camera_bytes_and_constants_within_nodes(tmp_path):
    two = numpy_helper.from_array(np.full(3, 2.5, np.float16))
    nodes = [
        node("Cast", "x", "h", to=F16),
        helper.make_node("Constant", [], ["c"], name="n_c", value=two),
        node("Mul", "h c", "m"),
        node("Cast", "m", "y", to=F32),
    ]
    path = saved(tmp_path / "m.onnx", nodes, {}, x=(U8, (2, 3)))
    x = np.array([[0, 1, 255], [3, 4, 5]], np.uint8)
    np.testing.assert_array_equal(run(rounded_to_half(path, TYPED), x), x * np.float32(2.5))


def test_codes_are_exact(tmp_path):
    """What is dequantized is not rounded: a product of codes is one of integers on the board."""
    scale, zero = np.float16(0.1), np.int8(0)
    nodes = [
        node("Cast", "x", "h", to=F16),
        node("QuantizeLinear", "h s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("MatMul", "d w", "m"),
        node("Cast", "m", "y", to=F32),
    ]
    path = saved(tmp_path / "m.onnx", nodes, {"s": scale, "z": zero, "w": np.eye(3, dtype=np.float16)})
    x = np.array([[0.04, 0.06, -3.3], [12.6, 100, -100]], np.float32)
    codes = np.clip(np.rint(half(x) / np.float32(scale)), -128, 127)
    np.testing.assert_array_equal(run(rounded_to_half(path, TYPED), x), half(codes * np.float32(scale)))


def test_layers_that_the_builder_has_to_keep_are_not_rounded(tmp_path):
    """TensorRT 8: what is not named may become FP16, with its constants."""
    nodes = [node("Mul", "x a", "kept"), node("Mul", "kept b", "y")]
    a, b = np.float32(1 + 2**-12), np.float32(1 + 2**-13)
    path = saved(tmp_path / "m.onnx", nodes, {"a": a, "b": b})
    flags = ("--fp16", "--precisionConstraints=obey", "--layerPrecisions=n_kept:fp32,n_other:fp16")
    assert float32_layers(flags) == {"n_kept"}
    x = np.full((2, 3), 1.5, np.float32)
    kept = run(rounded_to_half(path, TensorrtDetails(build_flags=flags)), x)
    np.testing.assert_array_equal(kept, half(x * a * half(b)))
    free = run(rounded_to_half(path, TensorrtDetails(build_flags=("--fp16",))), x)
    np.testing.assert_array_equal(free, half(half(x * half(a)) * half(b)))


def test_which_files_are_half():
    weak = TensorrtDetails(build_flags=("--int8", "--fp16"))
    assert computes_in_half(weak, "int8")
    assert computes_in_half(TYPED, "fp16")
    assert not computes_in_half(TYPED, "fp32")
    assert not computes_in_half(TensorrtDetails(build_flags=("--noTF32",)), "fp16")


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(EdgeError, match="cannot be read"):
        rounded_to_half(tmp_path / "m.onnx", TYPED)
    with pytest.raises(EdgeError, match="no file"):
        rounded_to_half(tmp_path / "n.onnx", TYPED)


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3"])
def test_what_is_infinite_on_the_board_is_so_here(short_demo, tmp_path, version):
    """A residual stream beyond 65504, which the norms would bring back: float32 computes it, FP16 does not."""
    weights = inference_weights(short_demo)
    factor = np.float32(2.0**15)

    def louder(block):
        out, fc2 = (replace(x, weight=x.weight * factor, bias=x.bias * factor) for x in (block.out, block.fc2))
        return replace(block, out=out, fc2=fc2)

    loud = replace(weights, blocks=tuple(map(louder, weights.blocks)))
    frame = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    finite = {}
    for name, those in (("usual", weights), ("loud", loud)):
        spec = GraphSpec(16, ImageSize(32, 32), outputs=("cls",))
        (artifact,) = tensorrt_models_from_variants(
            [Variant(spec, "fp16", those)], tmp_path / name, {}, TensorrtOptions(version, compile=False)
        )
        finite[name] = np.isfinite(open_onnx(tmp_path / name, artifact, 1)(frame)["cls"]).all()
    assert finite == {"usual": True, "loud": False}
