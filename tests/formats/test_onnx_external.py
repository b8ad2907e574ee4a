"""Files that an ONNX file refers to: found wherever a tensor may be; only regular ones beside it are opened."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from veca_edge.base.errors import EdgeError
from veca_edge.formats.onnx_external import check_external_data, external_locations
from veca_edge.runtime.onnxruntime import session_from_file, session_options


def external(name: str, location: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def adding(path, location: str):
    """A model that adds what a file holds."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [external("w", location)])
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    return path


def test_every_place_of_a_tensor_is_found(tmp_path):
    value = helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=external("", "inner"))], "i", [], [value], [external("k", "own")]
    )
    sparse = helper.make_sparse_tensor(external("s", "values"), external("i", "indices"), [4])
    nodes = [
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("Constant", [], ["d"], value=external("", "constant")),
        helper.make_node("Custom", [], ["e"], domain="a", tensors=[external("", "one"), external("", "two")]),
    ]
    graph = helper.make_graph(nodes, "g", [], [value], [external("w", "initializer")], sparse_initializer=[sparse])
    imports = [helper.make_opsetid("", 20)]
    function = helper.make_function(
        "a", "F", [], ["c"], [helper.make_node("Constant", [], ["c"], value=external("", "function"))], imports
    )
    model = helper.make_model(graph, functions=[function], opset_imports=imports)
    model.training_info.add().algorithm.initializer.append(external("t", "training"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert set(external_locations(tmp_path / "m.onnx")) == {
        *("inner", "own", "values", "indices", "constant", "one", "two", "initializer", "function", "training")
    }


def test_a_file_beside_the_model_is_taken(tmp_path):
    (tmp_path / "weights.bin").write_bytes(np.full(4, 2, np.float32).tobytes())
    session = session_from_file(adding(tmp_path / "m.onnx", "weights.bin"), session_options(1))
    (made,) = session.run(["y"], {"x": np.ones(4, np.float32)})
    assert (np.asarray(made) == 3).all()


@pytest.mark.parametrize(
    "location",
    [
        *("../outside", "/etc/hostname", "link", "folder/../../outside", "*/_ORT_MEM_ADDR_/*"),
        *("fifo", "folder", "missing", "zero", "", "a\0b", "C:\\x"),
    ],
)
def test_what_is_elsewhere_or_no_file_is_refused(tmp_path, location):
    inner = tmp_path / "bundle"
    (inner / "folder").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(bytes(16))
    (inner / "link").symlink_to(tmp_path / "outside")
    (inner / "zero").symlink_to("/dev/zero")
    os.mkfifo(inner / "fifo")
    with pytest.raises(EdgeError, match=r"outside of it|which is not") as error:
        session_from_file(adding(inner / "m.onnx", location), session_options(1))
    assert error.value.hint


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\x0a\xff location", b"\x0b location", b"\xff" * 20])
def test_what_is_no_onnx_file_is_one_message(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(EdgeError, match=r"m\.onnx"):
        session_from_file(tmp_path / "m.onnx", session_options(1))


# The field `external_data` of a tensor, as protobuf's C++ reads each of the first two; no protobuf takes the others.
@pytest.mark.parametrize(
    "tag", [b"\xea\x80\x80\x80\x10", b"\xea\x80\x80\x80\xf0\x00", b"\xea\x80\x80\x80\x80\x00", b"\x02"]
)
def test_a_tag_of_more_than_32_bits_hides_no_file(tmp_path, tag):
    entry = b"\x0a\x08location\x12\x0a../outside"
    value = tag + bytes([len(entry)]) + entry
    initializer = b"\x2a" + bytes([len(value)]) + value
    (tmp_path / "m.onnx").write_bytes(b"\x3a" + bytes([len(initializer)]) + initializer)
    with pytest.raises(EdgeError, match=r"m\.onnx cannot be read as an ONNX file: it has a field") as error:
        check_external_data(tmp_path / "m.onnx")
    assert error.value.hint


def test_a_file_of_ours(exported_square):
    for artifact in exported_square.artifacts:
        path = exported_square.directory / artifact.path
        assert external_locations(path) == ["weights.bin"]
        check_external_data(path)
