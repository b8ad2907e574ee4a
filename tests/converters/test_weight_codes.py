"""No file that is written here holds a weight code of -128, whatever a recipe says."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.calibration.recipe import LinearRecipe, QuantizationRecipe, quantized
from veca_edge.converters.coreml.packages import mlpackages_from_variants
from veca_edge.converters.cpu import onnx_models_from_variants
from veca_edge.converters.tensorrt.dialects import TensorrtOptions, tensorrt_models_from_variants
from veca_edge.formats.mlpackage import read_mlpackage
from veca_edge.model.folding import inference_weights
from veca_edge.model.plan import Variant

SIZE = ImageSize(32, 32)


@pytest.fixture(scope="module")
def extreme(square):
    """Weights of scales so narrow that most codes are at an end of their range, and rounded further outwards."""
    weights = inference_weights(square)
    linears = {
        name: LinearRecipe(
            np.ones(layer.weight.shape[1], np.float32),
            (np.abs(layer.weight).max(1) / 1000).astype(np.float32),
            {8: 0.05},
            np.where(layer.weight < 0, -128, 127).astype(np.int8),
        )
        for name, layer in weights.linears.items()
    }
    return quantized(weights, QuantizationRecipe(linears, (8,), "search"), 8)


def onnx_codes(path):
    tensors = onnx.load(path).graph.initializer
    return [numpy_helper.to_array(t) for t in tensors if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]


@pytest.mark.parametrize("write", [onnx_models_from_variants, tensorrt_models_from_variants])
def test_onnx(extreme, tmp_path, write):
    options = (TensorrtOptions("10.3"),) if write is tensorrt_models_from_variants else ()
    (artifact,) = write([Variant(GraphSpec(8, SIZE), "int8", extreme)], tmp_path, {}, *options)
    codes = onnx_codes(tmp_path / artifact.path)
    assert len(codes) >= len(extreme.linears) // 3
    assert {int(array.min()) for array in codes} == {-127}


def test_litert(extreme, tmp_path):
    pytest.importorskip("ai_edge_litert")
    from veca_edge.converters.litert.files import tflite_files_from_variants
    from veca_edge.formats.tflite import read_tflite

    (artifact,) = tflite_files_from_variants([Variant(GraphSpec(8, SIZE), "int8", extreme)], tmp_path, {})
    model = read_tflite(tmp_path / artifact.path)
    codes = [model.constant(t) for t in model.subgraphs[0].tensors if t.dtype == "INT8"]
    assert len(codes) == len(extreme.linears)
    assert {int(array.min()) for array in codes} == {-127}


def test_core_ml(extreme, tmp_path):
    (artifact,) = mlpackages_from_variants([Variant(GraphSpec(8, SIZE), "int8", extreme)], tmp_path, {})
    functions = read_mlpackage(tmp_path / artifact.path).functions.values()
    codes = [
        constant.value
        for function in functions
        for op in function.operations
        for bound in op.inputs.values()
        for constant in bound
        if not isinstance(constant, str) and constant.dtype == "INT8" and constant.value.ndim > 1
    ]
    assert codes
    assert {int(array.min()) for array in codes} == {-127}
