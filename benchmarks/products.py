"""The matrix products of one of our ONNX files, cut out and timed beside the whole file.

A profile slows every operator by some microseconds, which counts most for the small ones, and so understates the
share of the products. Here neither side is profiled. The products read inputs of their own and write, shape by
shape, into one buffer, so that they touch no more memory than within the model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from veca_edge.runtime.onnxruntime import session_from_file

from .common import interleaved

LINEAR = ("MatMulIntegerToFloat", "MatMul", "Gemm")
# Graph inputs of these types, as ONNX Runtime names them.
CODES, FLOATS = "tensor(uint8)", "tensor(float)"


def products_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of the linear layers: their inputs are graph inputs, their results outputs."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    known = known_values(model)
    nodes = [node for node in model.graph.node if node.op_type in LINEAR and node.input[1] in constants]
    inputs = {node.input[0]: known[node.input[0]] for node in nodes}
    outputs = [known[node.output[0]] for node in nodes]
    used = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "products",
        list(inputs.values()),
        outputs,
        [tensor for name, tensor in constants.items() if name in used],
    )
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def attention_products_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of the two products within every attention operator, head by head; inputs of one shape are one.

    Both sides of each lie as the product wants them, so that they take no longer than within the operator.
    """
    known = known_values(model)
    inputs: dict[str, onnx.ValueInfoProto] = {}
    nodes, outputs = [], []

    def product(name: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
        names = []
        for shape in (left, right):
            names.append("x".join(map(str, shape)))
            inputs[names[-1]] = onnx.helper.make_tensor_value_info(names[-1], onnx.TensorProto.FLOAT, shape)
        nodes.append(onnx.helper.make_node("MatMul", names, [name]))
        outputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (*left[:-1], right[-1])))

    for node in model.graph.node:
        if node.op_type == "Attention":
            (batch, asking, width), (_, asked, _) = (shape_of(known[name]) for name in node.input[:2])
            heads = next(a.i for a in node.attribute if a.name == "q_num_heads")
            channels = width // heads
            product(f"{node.name}.scores", (batch, heads, asking, channels), (batch, heads, channels, asked))
            product(f"{node.name}.mixed", (batch, heads, asking, asked), (batch, heads, asked, channels))
    graph = onnx.helper.make_graph(nodes, "attention", list(inputs.values()), outputs)
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def known_values(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    return {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)


def products_beside_whole(
    path: Path, options: onnxruntime.SessionOptions, image: np.ndarray, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of the `whole` (on the image), its `linear` layers, and the products in `attention`, interleaved."""
    whole, model = session_from_file(path, options), onnx.load(path)
    calls = {"whole": lambda: whole.run(None, {"image": image})}
    for name, part in (("linear", products_of(model)), ("attention", attention_products_of(model))):
        session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        calls[name] = bound(session)
    return interleaved(calls, rounds, 5)


def bound(session: onnxruntime.InferenceSession) -> Callable[[], None]:
    """A call on random inputs, with one buffer for all outputs of a shape."""
    generator = np.random.default_rng(0)
    random = {
        CODES: lambda shape: generator.integers(96, 160, shape, np.uint8),
        FLOATS: lambda shape: generator.standard_normal(shape, np.float32),
    }
    inputs = {entry.name: random[entry.type](entry.shape) for entry in session.get_inputs()}
    outputs = {made.name: tuple(made.shape) for made in session.get_outputs()}
    buffers = {shape: np.empty(shape, np.float32) for shape in set(outputs.values())}
    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_cpu_input(name, value)
    for name, shape in outputs.items():
        binding.bind_output(name, "cpu", 0, np.float32, shape, buffers[shape].ctypes.data)

    def call() -> None:
        session.run_with_iobinding(binding)

    call.memory = inputs, buffers  # the binding keeps neither alive
    return call
