"""LiteRT files that are damaged, or claim what cannot be: one error each."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
from litert_files import relu, subgraph_of, tflite

from veca_edge.base.errors import EdgeError, MissingDependency
from veca_edge.formats import tflite as reader
from veca_edge.formats.tflite import read_tflite, with_one_subgraph


def refused(path, match):
    with pytest.raises(EdgeError, match=match) as caught:
        read_tflite(path)
    assert str(path) in caught.value.message
    assert len(caught.value.message) < 400


def test_what_a_file_holds(tmp_path):
    model = read_tflite(tflite(tmp_path / "a.tflite", relu))
    (subgraph,) = model.subgraphs
    assert [(op.type, op.version) for op in subgraph.operators] == [("DEQUANTIZE", 1), ("RELU", 1)]
    image = subgraph.tensors[subgraph.inputs[0]]
    assert (image.name, image.dtype, image.shape, image.buffer) == ("image", "UINT8", (1, 4, 6, 3), None)
    assert (image.quantization.scales.tolist(), image.quantization.symmetric) == ([1 / 128], False)
    assert model.signatures["main"].outputs == {"out": subgraph.outputs[0]}
    assert model.content(model.metadata["veca_edge"]) == b"{}"


def test_constants_are_read_where_they_lie(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(8, 3)
    path = tflite(tmp_path / "a.tflite", lambda g, image: g.linear(g.dequantize(image), g.floats(values), np.zeros(8)))
    model = read_tflite(path)
    (op,) = [op for op in model.subgraphs[0].operators if op.type == "FULLY_CONNECTED"]
    assert op.options == {"keep_num_dims": True}
    assert np.array_equal(model.constant(model.subgraphs[0].tensors[op.inputs[1]]), values)


def test_one_subgraph_of_several(tmp_path):
    path = tflite(
        tmp_path / "a.tflite", relu, lambda file: subgraph_of(file, "b", lambda g, x: g.unary("TANH", g.dequantize(x)))
    )
    model = read_tflite(path)
    (tmp_path / "b.tflite").write_bytes(with_one_subgraph(model, "b"))
    alone = read_tflite(tmp_path / "b.tflite")
    assert [op.type for op in alone.subgraphs[0].operators] == ["DEQUANTIZE", "TANH"]
    assert (len(alone.subgraphs), dict(alone.signatures)) == (1, {})


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "missing.tflite", "can't be read: No such file")
    refused(tmp_path, "a directory")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "named pipe")
    for content in (b"", b"1234567", b"PK\x03\x04" + bytes(100), bytes(1000), b"\0\0\0\0TFL3", b"\xff" * 4 + b"TFL3"):
        (tmp_path / "a.tflite").write_bytes(content)
        refused(tmp_path / "a.tflite", "not a whole .tflite file")


def test_a_file_that_ends_too_early(tmp_path):
    content = tflite(tmp_path / "a.tflite", relu).read_bytes()
    for length in range(8, len(content), 37):
        (tmp_path / "a.tflite").write_bytes(content[:length])
        refused(tmp_path / "a.tflite", "not a whole .tflite file")


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    path = tflite(tmp_path / "a.tflite", relu)
    monkeypatch.setattr(reader, "MAX_BYTES", 100)
    refused(path, "larger than the 100 bytes")


def first(file):
    return file.model.subgraphs[0]


def wrong_index(file):
    first(file).operators[0].inputs = [99]


def wrong_code(file):
    first(file).operators[0].opcodeIndex = 9


def wrong_output(file):
    first(file).outputs = [-1]


def wrong_buffer(file):
    first(file).tensors[0].buffer = 1000


def wrong_order(file):
    first(file).operators.reverse()


def made_twice(file):
    first(file).operators[1].outputs = first(file).operators[0].outputs


def wrong_bytes(file):
    table = first(file).tensors[0]
    table.buffer = file.buffer(b"123")


def wrong_signature(file):
    file.model.signatureDefs[0].subgraphIndex = 3


def wrong_rank(file):
    first(file).tensors[0].shape = [1] * 9


def huge_shape(file):
    first(file).tensors[0].shape = [1 << 20, 1 << 20]


def negative_shape(file):
    first(file).tensors[0].shape = [-5]


def wrong_scales(file):
    first(file).tensors[0].quantization.scale = np.ones(2, np.float32)
    first(file).tensors[0].quantization.zeroPoint = np.zeros(2, np.int64)


def wrong_points(file):
    first(file).tensors[0].quantization.zeroPoint = np.zeros(2, np.int64)


def wrong_version(file):
    file.model.version = 4


def no_subgraph(file):
    file.model.subgraphs = []


def outside_of_the_file(file):
    file.model.buffers[0].offset, file.model.buffers[0].size = 1 << 40, 10


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (wrong_index, "names tensor 99"),
        (wrong_code, "names operator code 9"),
        (wrong_output, "names tensor -1"),
        (wrong_buffer, "names buffer 1000"),
        (wrong_order, "before it is made"),
        (made_twice, "made twice"),
        (wrong_bytes, "has 3 bytes"),
        (wrong_signature, "names subgraph 3"),
        (wrong_rank, "has 9 dimensions"),
        (huge_shape, r"is \[1048576, 1048576\]"),
        (negative_shape, r"is \[-5\]"),
        (wrong_scales, "2 scales along axis 0"),
        (wrong_points, "1 scales and 2 zero points"),
        (wrong_version, "schema has version 4"),
        (no_subgraph, "no subgraph"),
        (outside_of_the_file, "does not lie in it"),
    ],
)
def test_what_does_not_hold_together(tmp_path, change, match):
    refused(tflite(tmp_path / "a.tflite", relu, change), match)


def test_more_entries_than_a_file_may_have(tmp_path, monkeypatch):
    path = tflite(tmp_path / "a.tflite", relu)
    monkeypatch.setattr(reader, "MAX_ENTRIES", 10)
    refused(path, "more than 10 entries")


def test_a_name_that_is_too_long(tmp_path):
    def long_name(file):
        first(file).tensors[0].name = "a" * 20_000

    refused(tflite(tmp_path / "a.tflite", relu, long_name), "a name in it has 20,000 bytes")


def names(file):
    for i, tensor in enumerate(first(file).tensors):
        tensor.name = f"{i}" * 3000


def scales(file):
    tensor = first(file).tensors[0]
    tensor.shape, tensor.shapeSignature = [2000], None
    tensor.quantization.scale = np.ones(2000, np.float32)
    tensor.quantization.zeroPoint = np.zeros(2000, np.int64)


@pytest.mark.parametrize("change", [names, scales])
def test_more_bytes_of_names_and_scales_than_are_copied(tmp_path, monkeypatch, change):
    path = tflite(tmp_path / "a.tflite", relu, change)
    read_tflite(path)
    monkeypatch.setattr(reader, "MAX_COPIED_BYTES", 8000)
    refused(path, "more than 8,000 bytes of names and scales")


def test_without_litert(tmp_path, monkeypatch):
    path = tflite(tmp_path / "a.tflite", relu)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingDependency, match="ai-edge-litert") as caught:
        read_tflite(path)
    assert "veca-edge[android]" in caught.value.hint
