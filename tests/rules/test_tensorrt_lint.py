"""The linter on small hand-made files, on our own graph, and on what NNCF makes by default."""

from __future__ import annotations

import os

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.rules.finding import Finding
from veca_edge.rules.tensorrt.graph import CheckedModel
from veca_edge.rules.tensorrt.lint import lint_onnx
from veca_edge.rules.tensorrt.reading import read_onnx
from veca_edge.rules.tensorrt.releases import tensorrt_version
from veca_edge.rules.tensorrt.table import RULES

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

F64, F32, F16, BF16 = (TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
I8, U8, I32, I64, BOOL = (
    *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL),
)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], name=f"n_{output}", **attributes)


PAIR = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d")]
SCALE = {"s": np.float32(0.1), "z": np.int8(0)}


def model(
    nodes, constants, *, opset=20, ir_version=9, shape=(4, 32), kind=F32, out_kind=None, out_shape=None, domains=()
):
    """A graph from `x` to `y`."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", out_kind or kind, out_shape)],
        tensors,
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def quantized_matmul(scale_kind=np.float32, weight_scale=None, zero=0, zero_kind=np.int8, **options):
    """One linear layer with a correct Q/DQ pair and an int8 weight, except for what is given."""
    codes = np.ones((32, 64), np.int8)
    weight_scale = np.full(64, 0.01) if weight_scale is None else weight_scale
    return model(
        [*PAIR, node("DequantizeLinear", "codes ws", "w", axis=1), node("MatMul", "d w", "y")],
        {"s": scale_kind(0.1), "z": zero_kind(zero), "codes": codes, "ws": np.asarray(weight_scale, scale_kind)},
        **{"kind": F16 if scale_kind is np.float16 else F32, **options},
    )


def rules(findings: list[Finding]) -> set[str]:
    return {finding.rule for finding in findings}


def test_a_clean_file_gives_no_finding():
    assert lint_onnx(quantized_matmul(), "10.3") == []
    assert lint_onnx(quantized_matmul(np.float16), "10.3") == []


def test_a_uint8_zero_point_is_found():
    findings = lint_onnx(quantized_matmul(zero=128, zero_kind=np.uint8), "10.3")
    assert {"signed-int8", "zero-point-zero"} <= rules(findings)
    finding = next(f for f in findings if f.rule == "signed-int8")
    assert finding.node == "n_q"
    assert "UINT8" in finding.message
    assert finding.why
    assert finding.source.split(": ")[-1].startswith("https://")


def of_type(name, array, kind):
    return helper.make_tensor(name, kind, np.shape(array), np.ravel(array))


def other_types(kind, weights_only=False, scale=0.1):
    """A layer in another type than INT8, with one scale for its activation and one for its weight."""
    weight = [node("DequantizeLinear", "codes ws", "w"), node("MatMul", "x w" if weights_only else "d w", "y")]
    made = model(
        [*([] if weights_only else PAIR), *weight], {"s": np.float32(scale), "ws": np.float32(scale)}, opset=24
    )
    made.graph.initializer.append(of_type("codes", np.ones((32, 64)), kind))
    if not weights_only:
        made.graph.initializer.append(of_type("z", 0.0, kind))
    return made


@pytest.mark.parametrize(
    ("kind", "version", "message"),
    [
        (TensorProto.FLOAT8E4M3FN, "8.6", "works in FLOAT8E4M3FN, which TensorRT reads from 9.0 on"),
        (TensorProto.FLOAT8E4M3FN, "9.0", None),
        (TensorProto.FLOAT4E2M1, "10.7", "works in FLOAT4E2M1, which TensorRT reads from 10.8 on"),
        (TensorProto.FLOAT4E2M1, "10.8", None),
        (TensorProto.INT4, "10.15", "an activation is quantized to INT4, which is for weights only"),
        (TensorProto.FLOAT8E5M2, "11.0", "works in FLOAT8E5M2, which no release is known to read"),
        (TensorProto.UINT4, "11.0", "works in UINT4, which no release is known to read"),
        (TensorProto.INT16, "11.0", "works in INT16, which no release is known to read"),
    ],
)
def test_other_quantized_types_are_known_from_a_release_on(kind, version, message):
    found = [f for f in lint_onnx(other_types(kind), version) if f.rule not in ("opset", "ir-version")]
    assert rules(found) == ({"quantized-types"} if message else set())
    assert not message or any(message in finding.message for finding in found)


def test_weights_alone_in_int4():
    assert lint_onnx(other_types(TensorProto.INT4, weights_only=True), "10.15") == []
    found = lint_onnx(other_types(TensorProto.INT4, weights_only=True), "9.3")
    assert rules(found) == {"opset", "quantized-types"}
    int8 = rules(lint_onnx(other_types(TensorProto.INT8, weights_only=True), "10.15"))
    assert int8 == {"both-inputs-quantized", "weights-per-channel"}


def test_a_quantizer_says_its_type_in_any_of_three_ways():
    def made(**attributes):
        pair = [node("QuantizeLinear", "x s", "q", **attributes), node("DequantizeLinear", "q s", "d")]
        return model([*pair, node("Relu", "d", "y")], {"s": np.float32(0.1)}, opset=24)

    assert "signed-int8" in rules(lint_onnx(made(), "10.15"))
    assert rules(lint_onnx(made(output_dtype=I8), "10.15")) == {"linear-inputs-only"}
    assert lint_onnx(made(output_dtype=TensorProto.FLOAT8E4M3FN), "10.15") == []
    assert rules(lint_onnx(made(output_dtype=TensorProto.UINT16), "10.15")) == {"quantized-types"}


def test_scales_that_are_quantized_themselves():
    """As FP4 has them: a block of 16 values has a scale in FP8."""
    nodes = [
        node("DequantizeLinear", "scales s", "ws"),
        node("DequantizeLinear", "codes ws", "w", axis=0, block_size=16),
        node("MatMul", "x w", "y"),
    ]
    made = model(nodes, {"s": np.float32(0.1)}, opset=24)
    made.graph.initializer.append(of_type("codes", np.ones((32, 64)), TensorProto.FLOAT4E2M1))
    made.graph.initializer.append(of_type("scales", np.ones((2, 64)), TensorProto.FLOAT8E4M3FN))
    assert lint_onnx(made, "10.15") == []


def test_scales_that_are_powers_of_two():
    """As MXFP8 has them: a block of 32 values has a scale in E8M0."""
    nodes = [node("DequantizeLinear", "codes ws", "w", axis=0, block_size=32), node("MatMul", "x w", "y")]
    made = model(nodes, {}, opset=24)
    made.graph.initializer.append(of_type("codes", np.ones((32, 64)), TensorProto.FLOAT8E4M3FN))
    made.graph.initializer.append(of_type("ws", np.ones((1, 64)), TensorProto.FLOAT8E8M0))
    assert "constant-scale" not in rules(lint_onnx(made, "10.15"))


def test_findings_of_the_quantizers_themselves():
    assert rules(lint_onnx(quantized_matmul(zero=3), "10.3")) == {"zero-point-zero"}
    assert "scale-not-subnormal" in rules(lint_onnx(quantized_matmul(np.float16, np.full(64, 3e-5)), "10.3"))
    assert "constant-scale" in rules(lint_onnx(quantized_matmul(weight_scale=np.zeros(64)), "10.3"))
    assert rules(lint_onnx(quantized_matmul(weight_scale=0.01), "10.3")) == {"weights-per-channel"}


def test_weight_scales_on_the_wrong_axis():
    wrong = model(
        [*PAIR, node("DequantizeLinear", "codes ws", "w", axis=0), node("MatMul", "d w", "y")],
        {**SCALE, "codes": np.ones((32, 32), np.int8), "ws": np.full(32, 0.1, np.float32)},
    )
    assert rules(lint_onnx(wrong, "10.3")) == {"weights-per-channel"}


@pytest.mark.parametrize(
    ("version", "opset", "expected"),
    [
        ("8.5", 17, set()),
        ("8.5", 20, {"opset"}),
        ("10.3", 20, set()),
        ("10.3", 21, {"opset"}),
        ("10.6", 21, set()),
        ("11.0", 25, set()),
        ("10.3", 8, {"opset"}),
    ],
)
def test_operator_set_of_the_release(version, opset, expected):
    found = lint_onnx(model([node("Relu", "x", "y")], {}, opset=opset, ir_version=8), version)
    assert rules(found) == expected


def test_ir_version_of_the_release():
    assert rules(lint_onnx(model([node("Relu", "x", "y")], {}, opset=17, ir_version=9), "8.6")) == {"ir-version"}


def test_tensorrt_8_wants_weights_and_zero_points_its_own_way():
    found = rules(lint_onnx(quantized_matmul(opset=17, ir_version=8), "8.6"))
    assert found == {"weight-form", "zero-point-given"}
    assert "scale-type" in rules(lint_onnx(quantized_matmul(np.float16, opset=17, ir_version=8), "10.3"))


def test_layer_norm_is_one_operator_where_the_release_has_it():
    whole = model(
        [node("LayerNormalization", "x g b", "y", axis=-1)],
        {"g": np.ones(32, np.float32), "b": np.zeros(32, np.float32)},
        opset=17,
        ir_version=8,
    )
    parts = model(
        [
            node("ReduceMean", "x", "m", axes=[-1]),
            node("Sub", "x m", "c"),
            node("Mul", "c c", "s"),
            node("ReduceMean", "s", "v", axes=[-1]),
            node("Add", "v e", "ve"),
            node("Sqrt", "ve", "sd"),
            node("Div", "c sd", "y"),
        ],
        {"e": np.float32(1e-5)},
        opset=16,
        ir_version=8,
    )
    assert rules(lint_onnx(whole, "8.5")) == {"operators"}
    assert lint_onnx(whole, "8.6") == []
    assert lint_onnx(parts, "8.5") == []
    assert rules(lint_onnx(parts, "8.6")) == {"layer-norm-whole"}


def test_quantized_activations_belong_to_linear_layers():
    both = model([*PAIR, node("Add", "d x", "y")], SCALE)
    found = lint_onnx(both, "10.3")
    assert rules(found) == {"linear-inputs-only"}
    assert "Add" in found[0].message


def test_one_pair_serves_all_layers_of_an_input():
    constants = {**SCALE, "codes": np.ones((32, 32), np.int8), "ws": np.full(32, 0.1, np.float32)}
    weight = node("DequantizeLinear", "codes ws", "w", axis=1)
    shared = [*PAIR, weight, node("MatMul", "d w", "a"), node("MatMul", "d w", "b"), node("Add", "a b", "y")]
    twice = [
        *shared[:3],
        node("QuantizeLinear", "x s z", "q2"),
        node("DequantizeLinear", "q2 s z", "d2"),
        shared[3],
        node("MatMul", "d2 w", "b"),
        shared[5],
    ]
    assert lint_onnx(model(shared, constants), "10.3") == []
    assert rules(lint_onnx(model(twice, constants), "10.3")) == {"one-pair-per-input"}


def test_half_quantized_and_too_small_layers():
    half = model([*PAIR, node("MatMul", "d w", "y")], {**SCALE, "w": np.ones((32, 2), np.float32)})
    assert rules(lint_onnx(half, "10.3")) == {"both-inputs-quantized", "large-enough-for-int8"}


def test_a_factor_left_over_from_smoothing():
    clean = quantized_matmul()
    clean.graph.node[0].input[0] = "m"
    clean.graph.node.insert(0, node("Mul", "x f", "m"))
    clean.graph.initializer.append(numpy_helper.from_array(np.ones(32, np.float32), "f"))
    assert rules(lint_onnx(clean, "10.3")) == {"smoothing-folded"}


def test_types():
    mixed = model([node("Add", "x c", "y")], {"c": np.float16(1)}, shape=(4,))
    assert "types-agree" in rules(lint_onnx(mixed, "10.3"))
    infinite = model([node("Add", "x c", "y")], {"c": np.array([np.inf], np.float16)}, kind=F16)
    assert rules(lint_onnx(infinite, "10.3")) == {"finite-constants"}
    wide = model([node("Cast", "x", "i", to=I64), node("Mul", "i i", "j"), node("Cast", "j", "y", to=F32)], {})
    assert rules(lint_onnx(wide, "10.3")) == {"no-wide-types"}
    shapes = model([node("Shape", "x", "s"), node("Reshape", "x s", "y")], {})
    assert lint_onnx(shapes, "10.3") == []


@pytest.mark.parametrize(
    ("outer", "middle", "useless"),
    [
        *((F16, F32, True), (BF16, F32, True), (I32, I64, True), (I8, F16, True), (BOOL, I32, True), (F32, F32, True)),
        *((F32, F16, False), (F32, BF16, False), (F32, I32, False), (F16, BF16, False), (F16, I64, False)),
        *((I32, F32, False), (I64, I32, False), (I64, F64, False), (F32, BOOL, False), (U8, I8, False)),
    ],
)
def test_casts_there_and_back(outer, middle, useless):
    back = model([node("Cast", "x", "h", to=middle), node("Cast", "h", "y", to=outer)], {}, kind=outer)
    assert ("casts-needed" in rules(lint_onnx(back, "10.3"))) == useless


def test_a_cast_with_work_between():
    needed = model([node("Cast", "x", "h", to=F16), node("Relu", "h", "r"), node("Cast", "r", "y", to=F32)], {})
    assert lint_onnx(needed, "10.3") == []


def test_camera_bytes_are_cast_before_anything_moves_them():
    good = model([node("Cast", "x", "f", to=F16), node("Transpose", "f", "y", perm=[1, 0])], {}, kind=U8, out_kind=F16)
    bad = model([node("Transpose", "x", "t", perm=[1, 0]), node("Cast", "t", "y", to=F16)], {}, kind=U8, out_kind=F16)
    assert lint_onnx(good, "10.3") == []
    assert rules(lint_onnx(bad, "10.3")) == {"uint8-at-the-edge"}


def test_dynamic_axes_only_when_asked():
    dynamic = model([node("Relu", "x", "y")], {}, shape=("n", 32))
    assert rules(lint_onnx(dynamic, "10.3")) == {"static-shapes"}
    assert lint_onnx(dynamic, "10.3", allow_dynamic=True) == []


def test_operators_of_other_domains():
    foreign = model(
        [helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft", name="gelu")], {}, domains=["com.microsoft"]
    )
    found = lint_onnx(foreign, "10.3")
    assert rules(found) == {"standard-domain"}
    assert found[0].node == "gelu"


def test_nncf_default_output(square):
    """The output of NNCF's defaults on our own graph breaks TensorRT's rules in every way that is known of it."""
    nncf = pytest.importorskip("nncf")
    import onnx_ir as ir

    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.converters.onnx.dialect import Dialect
    from veca_edge.converters.onnx.graph import onnx_from_veca
    from veca_edge.model.folding import inference_weights

    spec = GraphSpec(16, ImageSize(32, 32), input="tensor")
    before = ir.to_proto(onnx_from_veca(inference_weights(square), spec, Dialect, {}))
    assert lint_onnx(before, "10.3") == []
    images = np.random.default_rng(0).standard_normal((2, 1, 3, 32, 32)).astype(np.float32)
    after = nncf.quantize(before, nncf.Dataset([{"image": image} for image in images]), subset_size=2)
    found = lint_onnx(after, "10.3")
    assert {"signed-int8", "linear-inputs-only", "both-inputs-quantized", "large-enough-for-int8"} <= rules(found)
    assert any("Softmax" in finding.node for finding in found if finding.rule == "signed-int8")


def test_files(tmp_path):
    path = tmp_path / "clean file.onnx"
    onnx.save(quantized_matmul(), path)
    assert lint_onnx(path, "10.3") == []
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(b"not a model")
    for bad in (rubbish, tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(EdgeError, match=bad.name):
            lint_onnx(bad, "10.3")


def test_an_invalid_file_is_one_finding(tmp_path):
    broken = quantized_matmul()
    del broken.graph.node[3].input[1]
    onnx.save(broken, tmp_path / "broken.onnx")
    for given in (broken, tmp_path / "broken.onnx"):
        (finding,) = lint_onnx(given, "10.3")
        assert finding.rule == "valid-onnx"
        assert "MatMul has 1 inputs" in finding.message
    unknown = model([node("Attention", "x x x", "y")], {}, opset=20)
    assert [finding.rule for finding in lint_onnx(unknown, "10.3")] == ["valid-onnx"]


def test_missing_weight_file(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(quantized_matmul(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert lint_onnx(path, "10.3") == []
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(EdgeError, match=r"weights\.bin"):
        lint_onnx(path, "10.3")


@pytest.mark.parametrize("location", ["pipe", "link", "../weights.bin", "/dev/zero"])
def test_weight_files_that_are_not_inside_or_not_regular(tmp_path, location):
    path = tmp_path / "models" / "model.onnx"
    path.parent.mkdir()
    onnx.save(quantized_matmul(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (path.parent / "weights.bin").rename(tmp_path / "weights.bin")
    (path.parent / "link").symlink_to(tmp_path / "weights.bin")
    os.mkfifo(path.parent / "pipe")
    changed = onnx.load(path, load_external_data=False)
    for tensor in changed.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(changed.SerializeToString())
    with pytest.raises(EdgeError, match="cannot be read as an ONNX model"):
        lint_onnx(path, "10.3")


def a_constant(damaged):
    return next(tensor for tensor in damaged.graph.initializer if tensor.name == "codes")


def in_a_branch(damaged):
    """A damaged array that no rule looks at, two graphs down."""
    short = TensorProto(data_type=F32, dims=[4], raw_data=b"123")
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=short)], "inner", [], [])
    damaged.graph.node.append(helper.make_node("If", ["x"], ["i"], then_branch=inner, else_branch=inner))


DAMAGE = {
    "bytes that are missing": lambda m: setattr(a_constant(m), "raw_data", a_constant(m).raw_data[:60]),
    "bytes that are too many": lambda m: setattr(a_constant(m), "raw_data", a_constant(m).raw_data + b"1"),
    "a huge shape": lambda m: a_constant(m).dims.append(2**60),
    "a negative shape": lambda m: a_constant(m).dims.__setitem__(0, -32),
    "no bytes": lambda m: a_constant(m).ClearField("raw_data"),
    "an unknown type": lambda m: setattr(a_constant(m), "data_type", 999),
    "an array of a branch": in_a_branch,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_arrays_that_are_not_what_they_say(tmp_path, name):
    damaged = quantized_matmul()
    DAMAGE[name](damaged)
    (tmp_path / "a.onnx").write_bytes(damaged.SerializeToString())
    with pytest.raises(EdgeError, match=r"a\.onnx' cannot be read as an ONNX model"):
        lint_onnx(tmp_path / "a.onnx", "10.3")


INVALID = {
    "a circle": lambda m: m.graph.node[0].input.__setitem__(0, "d"),
    "no outputs": lambda m: m.graph.node[1].ClearField("output"),
    "too many outputs": lambda m: m.graph.node[1].output.append("more"),
    "no inputs": lambda m: m.graph.node[3].ClearField("input"),
    "an input left empty": lambda m: m.graph.node[0].input.__setitem__(1, ""),
    "an attribute of another type": lambda m: (
        m.graph.node[2].attribute[0].CopyFrom(helper.make_attribute("axis", "one"))
    ),
    "an attribute that is unknown": lambda m: m.graph.node[3].attribute.append(helper.make_attribute("axis", 1)),
    "a scale that is text": lambda m: m.graph.initializer[0].CopyFrom(
        helper.make_tensor("s", TensorProto.STRING, [], [b"a"])
    ),
    "an operator set below zero": lambda m: setattr(m.opset_import[0], "version", -(2**40)),
}


@pytest.mark.parametrize("name", INVALID)
def test_graphs_that_make_no_sense_are_findings(tmp_path, name):
    damaged = quantized_matmul()
    INVALID[name](damaged)
    (tmp_path / "a.onnx").write_bytes(damaged.SerializeToString())
    assert rules(lint_onnx(tmp_path / "a.onnx", "10.3")) == {"valid-onnx"}


def test_names_that_are_not_text(tmp_path):
    content = quantized_matmul().SerializeToString()
    for name in (b"n_q", b"MatMul", b"codes", b"axis"):
        assert name in content
        (tmp_path / "a.onnx").write_bytes(content.replace(name, b"\xff" * len(name)))
        with pytest.raises(EdgeError, match="cannot be read as an ONNX model"):
            lint_onnx(tmp_path / "a.onnx", "10.3")


def test_long_chains_of_moved_data():
    chain = [node("Identity", "q" if i == 0 else f"i{i - 1}", f"i{i}") for i in range(3000)]
    chain += [node("DequantizeLinear", "i2999 s z", "d"), node("DequantizeLinear", "codes ws", "w", axis=1)]
    constants = {**SCALE, "codes": np.ones((32, 64), np.int8), "ws": np.full(64, 0.01, np.float32)}
    assert lint_onnx(model([PAIR[0], *chain, node("MatMul", "d w", "y")], constants), "10.3") == []


def test_weight_codes():
    damaged = quantized_matmul()
    codes = numpy_helper.to_array(a_constant(damaged)).copy()
    codes[3, 4:7] = -128
    a_constant(damaged).CopyFrom(numpy_helper.from_array(codes, "codes"))
    (finding,) = lint_onnx(damaged, "10.3")
    assert (finding.rule, finding.node) == ("weight-codes", "codes")
    assert "3 of 2048 codes" in finding.message
    codes[3, 4:7] = -127
    a_constant(damaged).CopyFrom(numpy_helper.from_array(codes, "codes"))
    assert lint_onnx(damaged, "10.3") == []


@pytest.mark.parametrize(
    "text",
    [
        *("ten", "10", "10.x", "", "-8.6", "8.4", "7.2.1"),
        *("v10.3", "10.3rc1", "1!10.3", "10.3+cuda12", "10.3-1", "1000.3", "9" * 5000 + ".3"),
    ],
)
def test_versions_that_are_none(text):
    with pytest.raises(EdgeError):
        tensorrt_version(text)


def test_versions():
    assert tensorrt_version("10.3.0.30") == (10, 3)
    assert tensorrt_version(" 8.5.2 ") == (8, 5)


def test_every_rule_says_why_and_where():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule.why.endswith(".")
        assert "https://" in rule.source or "IEEE" in rule.source


def test_the_model_given_is_left_alone():
    given = quantized_matmul()
    before = given.SerializeToString()
    lint_onnx(given, "10.3")
    assert given.SerializeToString() == before
    assert CheckedModel(read_onnx(given), (10, 3), False).opset == 20
