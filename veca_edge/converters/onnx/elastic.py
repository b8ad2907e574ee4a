"""One ONNX graph for many core counts: core tokens and their coordinates are inputs of dynamic length.

The same blocks as the static graph, but nothing about the core tokens is a constant, layer 0 included.
Patches stand behind the core tokens, so rows are counted from the end, where lengths are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from ...base.spec import GraphSpec
from ...model.folding import InferenceWeights
from ...model.plan import BlockRows, block_rows, graph_constants
from .dialect import Dialect, Graph
from .graph import core_looks, finish_block, finished_model, graph_input, later_queries
from .outputs import write_outputs

TOKENS, COORDINATES = "core_tokens", "core_coordinates"
END = np.iinfo(np.int64).max


class _FromTheEnd(Graph):
    """Rows may be given from the end: -N to 0 are the last N."""

    def rows(self, x: ir.Value, start: int, stop: int, axis: int = 1) -> ir.Value:
        return super().rows(x, start, stop or END, axis)


def elastic_from_veca(
    weights: InferenceWeights, spec: GraphSpec, dialect: type[Dialect], metadata: Mapping[str, str]
) -> ir.Model:
    """Writes the graph with the inputs `image`, `core_tokens` `[B, C, D]` and `core_coordinates` `[B, C, 2]`, float32.

    Args:
        spec: its core count does not matter, but has to be one of the model's.
        dialect: one without operators that bake positions in.

    Raises:
        EdgeError: impossible image size or outputs.
    """
    d = dialect(weights, spec, graph_constants(weights, spec))
    d.g, d.cores = _FromTheEnd(d.opset), -d.patches
    g, config = d.g, weights.config
    image = graph_input(spec)
    tokens, raw = (
        ir.Value(name=name, shape=ir.Shape([spec.batch, "core_count", width]), type=ir.TensorType(ir.DataType.FLOAT))
        for name, width in ((TOKENS, config.hidden), (COORDINATES, 2))
    )
    inputs = [image, tokens, raw]
    with g.within("patch_embed"):
        patches = d.patch_embed(image)
        if weights.patch_norm is not None:
            patches = d.layer_norm(patches, *weights.patch_norm)
    x = g("Concat", d.entering(tokens), patches, axis=1, name="tokens")
    every = BlockRows(core_queries=d.cores, patch_queries=True, patch_keys=True)
    all_rows = (every,) * (config.layers - 1) + block_rows(spec, config.layers, weights.heads)[-1:]
    states: list[ir.Value] = []
    looks: ir.Value | None = None
    for i, (block, rows) in enumerate(zip(weights.blocks, all_rows, strict=True)):
        with g.within(f"blocks.{i}"):
            if block.position is not None:
                raw = d.move_cores(raw, g.rows(x, 0, d.cores), block.position)
            q, k, v = later_queries(d, block, rows, x, raw)
            looks = core_looks(d, i, q, k) or looks
            x = finish_block(d, block, rows, x, q, k, v)
        states.append(x)
    return finished_model(d, inputs, write_outputs(d, states, looks), metadata)


def scales_for_all(weights: Sequence[InferenceWeights]) -> InferenceWeights:
    """The weights of several core counts as one: of every layer's activation scales the largest, which clips nothing.

    All must be of one recipe, so that they differ in their activation scales only.
    """
    first = weights[0]
    layers = {}
    for name, layer in first.linears.items():
        if layer.quantization is not None:
            every = [w.linears[name].quantization for w in weights]
            largest = max(q.activation_scale for q in every if q is not None)
            if None in every:
                raise ValueError(f"'{name}' is quantized at some core counts only")
            layers[name] = replace(layer, quantization=replace(layer.quantization, activation_scale=largest))
    return first.with_linears(layers)
