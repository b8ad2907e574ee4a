"""The LiteRT linter: silent on our files, and every rule found where it is broken."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
from litert_files import relu, subgraph_of, tflite, weights

from veca_edge.base.errors import EdgeError
from veca_edge.formats.tflite import builtin_operators, read_tflite
from veca_edge.rules.litert import lint_tflite, partitions
from veca_edge.rules.litert_operators import NAMES, OPERATORS, SOURCES, TENSOR_LEAVES, VERSIONS
from veca_edge.rules.options import DELEGATES, LitertLintOptions
from veca_edge.runtime.litert import partitions_of


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("delegate", DELEGATES)
def test_our_files_break_no_rule(tflite_files, precision, delegate):
    """But for what some delegates cannot take: INT8 layers that quantize while they run, and on a MediaTek the sines
    and cosines of where core tokens look. And NNAPI is deprecated."""
    directory, artifacts, variants = tflite_files
    found = lint_tflite(directory / artifacts[precision][0].path, delegate)
    rules = ["deprecated"] if delegate == "nnapi" else []
    if precision == "int8" and delegate in ("gpu", "nnapi"):
        rules += ["operator-version", "partitions"]
        layers = 3 * len(variants["int8"][0].weights.linears)
        (version,) = (f for f in found if f.rule == "operator-version")
        assert version.message == f"FULLY_CONNECTED of version 12, at {layers} places"
        assert version.node.count(", ") == 3
        assert version.node.endswith(", ...")
        assert "float weights" in version.why
    if delegate == "mediatek":
        rules += ["operator", "partitions"]
        left = {f.message.split(",")[0] for f in found if f.rule == "operator"}
        assert left == {"the operator SIN", "the operator COS"}
    assert sorted({f.rule for f in found}) == rules


def fc(g, x, weight, bias):
    return g.linear(x, weight, bias)


def cast(g, image):
    options = g.schema.CastOptionsT()
    (made,) = g.add_operator("CAST", [image], [g.shape(image)], options)
    return g.unary("RELU", made)


def per_tensor(g, image):
    codes = g.constant(np.ones((8, 3), np.int8), scale=np.array([0.1]))
    return fc(g, g.dequantize(image), codes, np.zeros(8))


def mixed(g, image):
    x = g.tensor([1, 4, 6, 3], np.int8, quantization=g.file.quantization(np.array([0.1])))
    g.add_operator("QUANTIZE", [g.dequantize(image)], [], g.schema.QuantizeOptionsT())
    g.table.operators[-1].outputs = [x]
    return fc(g, x, g.constant(np.ones((8, 3), np.int8), scale=np.full(8, 0.1)), np.zeros(8))


def with_zero_point(file):
    for tensor in file.model.subgraphs[0].tensors:
        if tensor.type == file.schema.TensorType.INT8:
            tensor.quantization.zeroPoint = np.full(8, 3, np.int64)


def transposed(g, image):
    x = g.dequantize(image)
    options = g.schema.BatchMatMulOptionsT()
    options.adjY = True
    (made,) = g.add_operator("BATCH_MATMUL", [x, x], [[1, 4, 6, 6]], options)
    return made


def five(g, image):
    return g.reshape(g.unary("RELU", g.reshape(g.dequantize(image), [1, 1, 4, 6, 3])), [1, 4, 6, 3])


def pieces(g, image):
    x = g.dequantize(image)
    (made,) = g.add_operator("ROUND", [x], [g.shape(x)])
    (outside,) = g.add_operator("FLOOR_MOD", [made, made], [g.shape(x)])
    return g.unary("RELU", outside)


def splits(g, image):
    options = g.schema.SplitOptionsT()
    options.numSplits = 6
    made = g.add_operator(
        "SPLIT", [g.constant(np.array(2, np.int32)), g.dequantize(image)], [[1, 4, 1, 3]] * 6, options
    )
    return made[0]


def int16(g, scale=None):
    """A value of a type that our files have none of."""
    x = g.tensor([1, 4, 6, 3], np.int8, quantization=scale)
    g.table.tensors[x].type = g.type.INT16
    return x


def wide(g, image):
    x = int16(g, scale=g.file.quantization(np.array([0.1])))
    g.add_operator("QUANTIZE", [g.dequantize(image)], [], g.schema.QuantizeOptionsT())
    g.table.operators[-1].outputs = [x]
    (made,) = g.add_operator("DEQUANTIZE", [x], [g.shape(x)], g.schema.DequantizeOptionsT())
    return made


def unscaled(g, image):
    x = int16(g)
    g.add_operator("CAST", [image], [], g.schema.CastOptionsT())
    g.table.operators[-1].outputs = [x]
    (made,) = g.add_operator("CAST", [x], [g.shape(x)], g.schema.CastOptionsT())
    return made


def uneven(g, image):
    x = g.dequantize(image)
    y = g.tensor([1, 4, 3, 6], np.int8, quantization=g.file.quantization(np.array([0.1])))
    g.add_operator("QUANTIZE", [g.reshape(x, [1, 4, 3, 6])], [], g.schema.QuantizeOptionsT())
    g.table.operators[-1].outputs = [y]
    (made,) = g.add_operator("BATCH_MATMUL", [x, y], [[1, 4, 6, 6]], g.schema.BatchMatMulOptionsT())
    return made


def ranked(g, image):
    (made,) = g.add_operator("RANK", [g.dequantize(image)], [[1]], g.schema.RankOptionsT())
    return made


def integers(g, image):
    return g.argmax(g.dequantize(image))


@pytest.mark.parametrize(
    ("delegate", "rule", "write"),
    [
        ("xnnpack", "image-cast", cast),
        ("npu", "image-cast", cast),
        ("xnnpack", "per-tensor-weights", per_tensor),
        ("xnnpack", "mixed-types", mixed),
        ("gpu", "transposed-operand", transposed),
        ("gpu", "rank", five),
        ("gpu", "operator-version", per_tensor),
        ("xnnpack", "operator", pieces),
        ("xnnpack", "partitions", pieces),
        ("xnnpack", "splits", splits),
        ("gpu", "operator", integers),
        ("mediatek", "operator", integers),
        ("mediatek", "type", unscaled),
        ("tensor", "operator", ranked),
        ("nnapi", "operator", ranked),
        ("nnapi", "operator", pieces),
        ("nnapi", "operator-version", per_tensor),
        ("nnapi", "rank", five),
        ("nnapi", "type", wide),
        ("nnapi", "mixed-types", uneven),
    ],
)
def test_a_broken_rule_is_found(tmp_path, delegate, rule, write):
    found = {f.rule: f for f in lint_tflite(tflite(tmp_path / "a.tflite", write), delegate)}
    assert rule in found
    assert found[rule].source.startswith("https://")
    assert found[rule].why.endswith(".")
    assert found[rule].node.startswith("main")


def test_weights_with_a_zero_point(tmp_path):
    def write(g, image):
        return fc(g, g.dequantize(image), g.constant(np.ones((8, 3), np.int8), scale=np.full(8, 0.1)), np.zeros(8))

    assert lint_tflite(tflite(tmp_path / "a.tflite", write)) == []
    assert [f.rule for f in lint_tflite(tflite(tmp_path / "b.tflite", write, with_zero_point))] == ["zero-point"]


def test_dynamic_shapes(tmp_path):
    def change(file):
        file.model.subgraphs[0].tensors[0].shapeSignature = [-1, 4, 6, 3]

    (found,) = lint_tflite(tflite(tmp_path / "a.tflite", relu, change))
    assert (found.rule, found.node) == ("dynamic-shape", "main/image")


def test_a_float_image(tmp_path):
    path = tflite(tmp_path / "a.tflite", lambda g, x: g.unary("RELU", x), dtype=np.float32)
    assert [f.rule for f in lint_tflite(path)] == ["image-input"]


def test_duplicated_buffers(tmp_path):
    def change(file):
        large = weights(128, 3)
        subgraph_of(file, "other", lambda g, image: fc(g, g.dequantize(image), g.floats(large), np.zeros(128)))
        file._buffers.clear()
        subgraph_of(file, "third", lambda g, image: fc(g, g.dequantize(image), g.floats(large), np.zeros(128)))

    (found,) = lint_tflite(tflite(tmp_path / "a.tflite", relu, change))
    assert found.rule == "duplicated-buffer"
    assert found.message == "2 buffers hold the same 1,536 bytes"


def test_no_signature_and_no_metadata(tmp_path):
    def change(file):
        file.model.signatureDefs.clear()
        file.model.metadata.clear()

    assert {f.rule for f in lint_tflite(tflite(tmp_path / "a.tflite", relu, change))} == {"signature", "metadata"}


def test_pieces_are_counted_as_litert_cuts(tmp_path):
    """The rule's own count is that of the runtime."""
    model = read_tflite(tflite(tmp_path / "a.tflite", pieces))
    subgraph = model.subgraphs[0]
    taken = [op.type != "FLOOR_MOD" for op in subgraph.operators]
    assert partitions(subgraph, taken) == 2
    found = partitions_of(model, "main")
    assert (found.count, found.outside) == (2, ("FLOOR_MOD",))
    assert partitions(subgraph, [True] * 4) == 1
    assert partitions(subgraph, [False] * 4) == 0


def test_nnapi_is_deprecated_whatever_it_takes(tmp_path):
    (found,) = lint_tflite(tflite(tmp_path / "a.tflite", relu), "nnapi")
    assert (found.rule, found.node) == ("deprecated", "")
    assert "Android 15" in found.why
    assert "migration-guide" in found.source


def test_options_and_sources():
    assert set(SOURCES) == set(NAMES) == set(DELEGATES)
    assert set(OPERATORS) | {"tensor"} == set(DELEGATES)
    # A name that the schema does not know would be a rule that never applies.
    listed = set.union(*(set(names) for names in (*OPERATORS.values(), *VERSIONS.values(), TENSOR_LEAVES)))
    assert listed <= builtin_operators()
    with pytest.raises(EdgeError, match=r"Unknown delegate 'hexagon'") as error:
        LitertLintOptions("hexagon")
    assert all(name in error.value.hint for name in DELEGATES)
