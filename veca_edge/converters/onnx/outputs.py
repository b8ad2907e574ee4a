"""The end of the ONNX graph: final norm, projection, task heads, and the outputs asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...base.tasks import Task, Tokens
from ...model.heads import Head, active_heads, bilinear_matrix, depth_form
from ..tokens import BlockTokens
from .dialect import Dialect


class GraphTokens(BlockTokens[ir.Value]):
    """In ONNX: states are `[B, C + N, D]`."""

    def __init__(self, d: Dialect, states: Sequence[ir.Value]):
        super().__init__(d.weights, d.spec, states)
        self.d = d

    def normalised(self, block: int, kind: Tokens) -> ir.Value:
        d, output = self.d, self.d.weights.output
        if output is not None and block == self.last:
            return super().normalised(block, kind)
        # Split before the norm: ONNX Runtime would fuse add and norm into an operator that is slower than both.
        x = self._norm(self.part(self.states[block], block, kind))
        return x if output is None else d.float_linear(x, output)

    def finish(self, block: int) -> ir.Value:
        d, output = self.d, self.d.weights.output
        x = self._norm(self.states[block])
        return x if output is None else d.linears(x, d.leaving(self.rows[block]), [output])[0]

    def part(self, x: ir.Value, block: int, kind: Tokens) -> ir.Value:
        rows, g = self.rows[block], self.d.g
        if kind == Tokens.CLS:
            return g.rows(x, 0, 1) if rows.patch_queries else x
        # An elastic graph finds the patches from the end: its dialect's count of cores says so.
        cores = self.d.cores if block < self.last else rows.core_queries
        return g.rows(x, cores, cores + self.d.patches) if cores else x

    def mean(self, patches: ir.Value) -> ir.Value:
        share = np.full((1, self.d.patches), 1 / self.d.patches)
        return self.d.g("MatMul", self.d.array("mean", share), patches)

    def _norm(self, x: ir.Value) -> ir.Value:
        weights = self.d.weights
        return self.d.layer_norm(x, weights.final_gain, weights.final_shift if weights.final_shift.any() else None)


def write_outputs(d: Dialect, states: Sequence[ir.Value], looks: ir.Value | None = None) -> list[ir.Value]:
    """The outputs of the graph, in their order, from what leaves every block and `[B, N]` of where core tokens look."""
    g, wanted = d.g, d.spec.outputs
    made: dict[str, ir.Value] = {}
    with g.within("final"):
        ends = GraphTokens(d, states)
        if "cls" in wanted:
            made["cls"] = d.output(g("Squeeze", ends.tokens(ends.last, Tokens.CLS), g.ints([1])))
        if "dense" in wanted:
            made["dense"] = d.output(ends.tokens(ends.last, Tokens.PATCHES))
        if looks is not None:
            made["attention"] = d.output(g("Reshape", looks, g.ints([d.batch, *d.grid])))
        for head in active_heads(d.weights.heads, wanted):
            with g.within(head.task):
                made.update(_answers(d, head, _scores(d, head, ends)))
    for name in wanted:
        made[name].name = name
    return [made[name] for name in wanted]


def _scores(d: Dialect, head: Head, ends: GraphTokens) -> ir.Value:
    """`[B, 1, K]` of a classifier, else `[B, N, K]`."""
    g = d.g
    products = [
        g("MatMul", ends.tokens(t.block, t.tokens, head.normalised), d.array("weight", t.weight.T)) for t in head.terms
    ]
    total = products[0]
    for product in products[1:]:
        total = g("Add", total, product)
    return g("Add", total, d.array("bias", head.bias))


def _answers(d: Dialect, head: Head, scores: ir.Value) -> dict[str, ir.Value]:
    """The head's outputs by name."""
    g, wanted = d.g, d.spec.outputs
    if head.task == Task.CLASSIFY:
        return {"logits": d.output(g("Squeeze", scores, g.ints([1])))}
    scores = g("Reshape", scores, g.ints([d.batch, *d.grid, head.classes]))
    if head.task == Task.DEPTH:
        return {"depth": _depth(d, head, scores)}
    made = {}
    if "segmentation_logits" in wanted:
        made["segmentation_logits"] = d.output(g("Transpose", scores, perm=[0, 3, 1, 2]))
    if "segmentation" in wanted:
        large = _resized(d, scores, d.grid, d.spec.map_size, head.classes)
        labels = g("ArgMax", large, axis=3, keepdims=0)
        made["segmentation"] = g("Cast", labels, to=d.label_type(head.classes))
    return made


def _depth(d: Dialect, head: Head, scores: ir.Value) -> ir.Value:
    """Scores `[B, h, w, K]` to metres `[B, H', W']`, in float32 from the scores on."""
    g, form = d.g, depth_form(head)
    rows, columns = (side * head.upsampling for side in d.grid)
    scores = _resized(d, scores, d.grid, (rows, columns), head.classes)
    with g.within("metres"):
        metres = g("Relu", d.precise(scores))
        shifts = g.constant("shifts", form.shifts)
        if form.values is None:
            metres = g("Add", metres, shifts)
        else:
            sums = g("Add", g("MatMul", metres, g.constant("values", form.values)), shifts)
            weighted, total = g.rows(sums, 0, 1, 3), g.rows(sums, 1, 2, 3)
            metres = g("Mul", g("Div", weighted, total), g.constant("scale", np.array(form.scale, np.float32)))
        metres = g("Reshape", metres, g.ints([d.batch, rows, columns]))
        height, width = d.spec.map_size
        if rows != height:
            metres = g("MatMul", g.constant("rows", bilinear_matrix(rows, height)), metres)
        if columns != width:
            metres = g("MatMul", metres, g.constant("columns", bilinear_matrix(columns, width).T))
        return metres


def _resized(d: Dialect, x: ir.Value, source: tuple[int, int], target: tuple[int, int], channels: int) -> ir.Value:
    """`[B, h, w, K]` resized bilinearly, by one matrix product for each side: K stays last, nothing is transposed."""
    g, (rows, columns) = d.g, source
    if rows != target[0]:
        x = g("Reshape", x, g.ints([d.batch, rows, columns * channels]))
        x = g("MatMul", d.array("rows", bilinear_matrix(rows, target[0])), x)
        x = g("Reshape", x, g.ints([d.batch, target[0], columns, channels]))
    if columns != target[1]:
        x = g("MatMul", d.array("columns", bilinear_matrix(columns, target[1])), x)
    return x


def output_shape(d: Dialect, name: str) -> ir.Shape:
    """The shape of an output of `spec`."""
    spec, width = d.spec, d.config.output_dim
    if name in ("segmentation", "depth"):
        return ir.Shape([spec.batch, *spec.map_size])
    if name == "cls":
        return ir.Shape([spec.batch, width])
    if name == "dense":
        return ir.Shape([spec.batch, d.patches, width])
    if name == "attention":
        return ir.Shape([spec.batch, *d.grid])
    (head,) = active_heads(d.weights.heads, (name,))
    return ir.Shape([spec.batch, head.classes, *(d.grid if name == "segmentation_logits" else ())])


def output_type(d: Dialect, name: str) -> ir.DataType:
    """float32, but for label maps, whose integer type is the dialect's."""
    if name != "segmentation":
        return ir.DataType.FLOAT
    (head,) = active_heads(d.weights.heads, (name,))
    return d.label_type(head.classes)
