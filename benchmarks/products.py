"""The matrix products of one of our ONNX files, cut out and timed beside the whole file.

A profile slows every operator by some microseconds, which counts most for the small ones, and so understates the
share of the products. Here neither side is profiled. The products read inputs of their own and write, shape by
shape, into one buffer, so that they touch no more memory than within the model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from veca_edge.runtime.onnxruntime import session_from_file

from .common import interleaved

PRODUCTS = ("MatMulIntegerToFloat", "MatMul", "Gemm")


def products_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of the products with constant weights alone: their inputs are graph inputs, their results outputs.

    Products inside attention operators are not among them.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    nodes = [node for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in constants]
    inputs = {node.input[0]: known[node.input[0]] for node in nodes}
    outputs = [known[node.output[0]] for node in nodes]
    used = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(nodes, "products", list(inputs.values()), outputs,
                                   [tensor for name, tensor in constants.items() if name in used])
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def products_beside_whole(path: Path, options: onnxruntime.SessionOptions, image: np.ndarray,
                          rounds: int) -> dict[str, list[float]]:
    """Milliseconds of `whole` (on the image) and `products`, interleaved."""
    whole = session_from_file(path, options)
    alone = onnxruntime.InferenceSession(products_of(onnx.load(path)).SerializeToString(), options,
                                         providers=["CPUExecutionProvider"])
    binding = alone.io_binding()
    buffers: dict[tuple[int, ...], np.ndarray] = {}
    generator = np.random.default_rng(0)
    for entry in alone.get_inputs():
        integers = entry.type == "tensor(uint8)"
        binding.bind_cpu_input(entry.name, generator.integers(96, 160, entry.shape, np.uint8) if integers
                               else generator.standard_normal(entry.shape, np.float32))
    for made in alone.get_outputs():
        buffer = buffers.setdefault(tuple(made.shape), np.empty(made.shape, np.float32))
        binding.bind_output(made.name, "cpu", 0, np.float32, made.shape, buffer.ctypes.data)
    return interleaved({"whole": lambda: whole.run(None, {"image": image}),
                        "products": lambda: alone.run_with_iobinding(binding)}, rounds, 5)
