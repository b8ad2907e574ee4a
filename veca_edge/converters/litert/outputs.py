"""The end of a subgraph: final norm, projection, task heads, and the outputs asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...base.tasks import Task, Tokens
from ...model.heads import Head, active_heads, bilinear_matrix, depth_form
from ..tokens import BlockTokens
from .graph import GraphWriter


class SubgraphTokens(BlockTokens[int]):
    """In LiteRT: states are `[B, C + N, D]`."""

    def __init__(self, writer: GraphWriter, states: Sequence[int]):
        super().__init__(writer.weights, writer.spec, states)
        self.w = writer

    def finish(self, block: int) -> int:
        weights = self.w.weights
        x = self.w.norm(self.states[block], weights.final_gain, weights.final_shift)
        return x if weights.output is None else self.w.linear(x, weights.output, stays_float=block < self.last)

    def part(self, x: int, block: int, kind: Tokens) -> int:
        cores = self.rows[block].core_queries
        start, stop = (0, 1) if kind == Tokens.CLS else (cores, cores + self.w.patches)
        return self.w.g.rows(x, start, stop, 1)

    def mean(self, patches: int) -> int:
        g = self.w.g
        return g.transpose(g.mean(g.transpose(patches, [0, 2, 1])), [0, 2, 1])


def write_outputs(writer: GraphWriter, states: Sequence[int], looks: int | None) -> dict[str, int]:
    """The outputs that the spec asks for, by name and in their order.

    Args:
        looks: `[B, N, 1]`, where the core tokens look, if that is an output.
    """
    g, wanted = writer.g, writer.spec.outputs
    g.enter("out")
    ends = SubgraphTokens(writer, states)
    made: dict[str, int] = {}
    if "cls" in wanted:
        made["cls"] = g.reshape(ends.tokens(ends.last, Tokens.CLS), [writer.batch, writer.config.output_dim])
    if "dense" in wanted:
        made["dense"] = ends.tokens(ends.last, Tokens.PATCHES)
    if looks is not None:
        made["attention"] = g.reshape(looks, [writer.batch, *writer.grid])
    for head in active_heads(writer.weights.heads, wanted):
        made.update(_answers(writer, head, _scores(writer, head, ends)))
    for name in wanted:
        g.rename(made[name], name)
    return {name: made[name] for name in wanted}


def _scores(writer: GraphWriter, head: Head, ends: SubgraphTokens) -> int:
    """`[B, 1, K]` of a classifier, else `[B, N, K]`."""
    g, total = writer.g, None
    for i, term in enumerate(head.terms):
        bias = head.bias if i == 0 else np.zeros_like(head.bias)
        product = g.linear(ends.tokens(term.block, term.tokens, head.normalised), g.floats(term.weight), bias)
        total = product if total is None else g.add(total, product)
    assert total is not None
    return total


def _answers(writer: GraphWriter, head: Head, scores: int) -> dict[str, int]:
    """The head's outputs by name."""
    g, spec = writer.g, writer.spec
    if head.task == Task.CLASSIFY:
        return {"logits": g.reshape(scores, [writer.batch, head.classes])}
    scores = g.reshape(scores, [writer.batch, *writer.grid, head.classes])
    if head.task == Task.DEPTH:
        return {"depth": _depth(writer, head, scores)}
    made = {}
    if "segmentation_logits" in spec.outputs:
        made["segmentation_logits"] = g.transpose(scores, [0, 3, 1, 2])
    if "segmentation" in spec.outputs:
        made["segmentation"] = g.argmax(_resized(writer, scores, spec.map_size))
    return made


def _depth(writer: GraphWriter, head: Head, scores: int) -> int:
    """Scores `[B, h, w, K]` to metres `[B, H', W']`."""
    g, form = writer.g, depth_form(head)
    rows, columns = (side * head.upsampling for side in writer.grid)
    raised = g.unary("RELU", _resized(writer, scores, (rows, columns)))
    if form.values is None:
        metres = g.add(raised, g.floats(form.shifts))
    else:
        weighted, total = g.halves(g.linear(raised, g.floats(form.values.T), form.shifts), 3)
        metres = g.mul(g.div(weighted, total), g.floats(np.array([form.scale])))
    return g.reshape(_resized(writer, metres, writer.spec.map_size), [writer.batch, *writer.spec.map_size])


def _resized(writer: GraphWriter, x: int, size: tuple[int, int]) -> int:
    """`[B, h, w, K]` resized bilinearly, by one matrix product for each side.

    The weights come last, in fully connected layers, which every delegate takes with constant weights.
    """
    for axis in (1, 2):
        source, target = writer.g.shape(x)[axis], size[axis - 1]
        if source != target:
            x = _along(writer, x, axis, bilinear_matrix(source, target))
    return x


def _along(writer: GraphWriter, x: int, axis: int, matrix: np.ndarray) -> int:
    """`matrix` `[target, source]` applied along an axis of `[B, h, w, K]`."""
    g, order = writer.g, [0, 1, 2, 3]
    order[axis], order[3] = 3, axis
    return g.transpose(g.linear(g.transpose(x, order), g.floats(matrix), np.zeros(len(matrix))), order)
