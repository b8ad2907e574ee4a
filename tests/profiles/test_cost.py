import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.converters.cpu import CpuDialect
from veca_edge.converters.onnx.dialect import Dialect
from veca_edge.converters.onnx.graph import onnx_from_veca
from veca_edge.model.config import FAMILIES
from veca_edge.model.folding import inference_weights
from veca_edge.model.heads import classifier
from veca_edge.profiles.cost import (
    Cost,
    attention_block_macs,
    attention_pairs,
    cost_of_model,
    cost_of_onnx,
    dense_attention_block_macs,
)


@pytest.mark.parametrize(
    ("size", "veca", "dense"),
    [(256, 1.623, 1.441), (384, 3.259, 3.778), (512, 5.549, 8.108), (768, 12.092, 27.274), (1024, 21.253, 71.016)],
)
def test_published_counts_of_one_block(size, veca, dense):
    """Base, 64 cores; the dense one has a class token and four registers. FLOPs are twice the MACs."""
    patches = (size // 16) ** 2
    assert round(2 * attention_block_macs(768, patches, 64) / 1e9, 3) == veca
    assert round(2 * dense_attention_block_macs(768, patches + 5) / 1e9, 3) == dense


def test_published_share_of_attention_interactions():
    """87.1% fewer per layer, at 512 pixels."""
    assert round(1 - attention_pairs(1024, 64) / 1024**2, 3) == 0.871


@pytest.mark.parametrize("outputs", [("cls", "dense"), ("cls",), ("dense",)])
@pytest.mark.parametrize("dialect", [Dialect, CpuDialect])
@pytest.mark.parametrize("core_count", [8, 32])
@pytest.mark.parametrize("name", ["square", "wide_projected"])
def test_the_file_contains_what_the_sizes_say(request, tmp_path, name, dialect, core_count, outputs):
    import onnx_ir as ir

    weights = inference_weights(request.getfixturevalue(name))
    config = weights.config
    spec = GraphSpec(core_count, ImageSize(32, 48), 2, outputs=outputs)
    ir.save(onnx_from_veca(weights, spec, dialect, {}), tmp_path / "m.onnx")
    expected = cost_of_model(config, spec)
    # The file spreads coordinates over the angles by a small product, which no other target does.
    angles = (config.layers - 1) * core_count * config.head_dim
    assert cost_of_onnx(tmp_path / "m.onnx") == Cost(expected.macs + angles, expected.attention_interactions)


def test_asking_for_less_costs_less():
    config = FAMILIES["small"].config()
    heads = [classifier(np.zeros((1000, 384)), np.zeros(1000), config.layers - 1)]

    def macs(*outputs):
        return cost_of_model(config, GraphSpec(16, ImageSize(256, 256), outputs=outputs), heads).macs

    assert macs("cls") < 0.95 * macs("cls", "dense")
    assert macs("cls", "logits") - macs("cls") == 384 * 1000


def test_counts_integer_products_and_standard_attention(tmp_path):
    def tensor(name, shape, dtype=np.float32):
        return numpy_helper.from_array(np.zeros(shape, dtype), name)

    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["image"], ["codes", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["codes", "w", "zero"], ["product"]),  # 1 x 10 x 8 x 16
        helper.make_node("Cast", ["product"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("MatMulIntegerToFloat", ["codes", "w", "scale", "ws"], ["y"], domain="com.microsoft"),
        helper.make_node("Attention", ["x", "y", "y"], ["a"], q_num_heads=2, kv_num_heads=2),  # 10 x 10 x 32
        helper.make_node("Reshape", ["a", "flat"], ["r"]),
        helper.make_node("Gemm", ["r", "g"], ["out"], transB=1),  # 10 x 16 x 3
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", TensorProto.FLOAT, (1, 10, 8))],
        [value("out", TensorProto.FLOAT, (10, 3))],
        [
            tensor("w", (8, 16), np.int8),
            tensor("ws", (16,)),
            tensor("g", (3, 16)),
            numpy_helper.from_array(np.array([10, 16]), "flat"),
        ],
        value_info=[value("y", TensorProto.FLOAT, (1, 10, 16))],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "m.onnx")
    assert cost_of_onnx(tmp_path / "m.onnx") == Cost(2 * 10 * 8 * 16 + 10 * 10 * 32 + 10 * 16 * 3, 100)


def test_says_when_it_cannot_count(tmp_path):
    value = helper.make_tensor_value_info
    node = helper.make_node("MatMul", ["image", "w"], ["out"], name="product")
    graph = helper.make_graph(
        [node],
        "g",
        [value("image", TensorProto.FLOAT, ("n", 8))],
        [value("out", TensorProto.FLOAT, ("n", 4))],
        [numpy_helper.from_array(np.zeros((8, 4), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    with pytest.raises(EdgeError, match=r"shape of 'image' at 'product' \(MatMul\) is not static"):
        cost_of_onnx(tmp_path / "m.onnx")
    node.op_type = "Einsum"
    node.attribute.add(name="equation", type=onnx.AttributeProto.STRING, s=b"ij,jk->ik")
    graph.node[0].CopyFrom(node)
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    with pytest.raises(EdgeError, match="'product' \\(Einsum\\) is unknown"):
        cost_of_onnx(tmp_path / "m.onnx")
