"""Shortened programs: the same operations on the same numbers, in less room, readable by coremltools itself."""

from __future__ import annotations

import numpy as np
import pytest

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.converters.coreml import packages as coreml
from veca_edge.converters.coreml import text as mil_text
from veca_edge.converters.coreml.options import CoremlOptions
from veca_edge.converters.coreml.packages import mlpackages_from_variants
from veca_edge.formats.mlpackage import read_mlpackage, read_specification, specification_path
from veca_edge.model.folding import inference_weights
from veca_edge.model.plan import Variant
from veca_edge.runtime.program import open_mlpackage

SIZE = ImageSize(32, 32)


@pytest.fixture(scope="module")
def pair(square, absmax_quantized, tmp_path_factory):
    """One int8 package as coremltools writes it, and shortened."""
    variant = Variant(GraphSpec(8, SIZE), "int8", absmax_quantized(inference_weights(square), 8))
    paths = []
    for name in ("long", "short"):
        directory = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            if name == "long":
                patch.setattr(coreml, "shorten", lambda program: None)
            (artifact,) = mlpackages_from_variants([variant], directory, {}, CoremlOptions())
        paths.append(directory / artifact.path)
    return paths


def test_the_same_is_computed_in_the_same_order(pair):
    frame = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    long, short = (open_mlpackage(path)(frame) for path in pair)
    for name in ("cls", "dense"):
        np.testing.assert_array_equal(long[name], short[name])
    operations = [
        [(op.type, op.outputs) for op in read_mlpackage(path).functions["main"].operations if op.type != "const"]
        for path in pair
    ]
    assert operations[0] == operations[1]


def test_it_takes_less_room(pair):
    long, short = (specification_path(path).stat().st_size for path in pair)
    assert short < 0.75 * long


def test_names_tell_the_layer(pair):
    operations = read_mlpackage(pair[1]).functions["main"].operations
    names = {op.name for op in operations}
    assert {"b0_qkv", "b1_fc1_q", "b1_fc1_dq", "b1_fc1_w", "b1_cos", "cls", "dense"} <= names
    assert not any(op.name.startswith(op.type) for op in operations)


def test_coremltools_reads_it(pair):
    from coremltools.converters.mil.frontend.milproto.load import load

    for path in pair:
        model = read_specification(path)
        program = load(model, model.specificationVersion, str(specification_path(path).parent / "weights"))
        kinds = [op.op_type for op in program.functions["main"].operations if op.op_type != "const"]
        assert kinds == [op.type for op in read_mlpackage(path).functions["main"].operations if op.type != "const"]


def test_a_constant_that_many_use_stays_one(pair):
    block = read_specification(pair[1]).mlProgram.functions["main"]
    block = block.block_specializations[block.opset]
    immediate = [
        op
        for op in block.operations
        if op.type == "const" and op.attributes["val"].WhichOneof("value") == "immediateValue"
    ]
    for constant in immediate:
        uses = sum(binding.name == constant.outputs[0].name for binding in mil_text._bindings(block))
        assert uses > 1
