"""The end of a Core ML program: final norm, projection, task heads, and the outputs asked for, in FP16."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...base.tasks import Task, Tokens
from ...model.heads import Head, active_heads, bilinear_matrix, depth_form
from ..tokens import BlockTokens
from .writer import Var, Writer, half


class ProgramTokens(BlockTokens[Var]):
    """In Core ML: states have the writer's layout, with the core tokens in reverse; tokens are rows `[B, S, D]`."""

    def __init__(self, writer: Writer, states: Sequence[Var]):
        super().__init__(writer.weights, writer.spec, states)
        self.writer = writer

    def finish(self, block: int) -> Var:
        writer, weights = self.writer, self.writer.weights
        name = "final_norm" if block == self.last else f"final_norm_{block}"
        x = writer.norm(self.states[block], weights.final_gain, name, weights.final_shift)
        if weights.output is None:
            return x
        return writer.linear(x, weights.output, "" if block == self.last else f"output_proj_{block}")

    def part(self, x: Var, block: int, kind: Tokens) -> Var:
        writer, cores = self.writer, self.rows[block].core_queries
        start, stop = (cores - 1, cores) if kind == Tokens.CLS else (cores, cores + writer.patches)
        x = writer.rows(x, start, stop, writer.layout.token_axis)
        if kind == Tokens.CLS:
            return writer.mb.reshape(x=x, shape=[writer.batch, 1, x.shape[writer.layout.channel_axis]])
        return writer.layout.by_row(writer.mb, x)

    def mean(self, patches: Var) -> Var:
        share = np.full((1, 1, self.writer.patches), 1 / self.writer.patches)
        return self.writer.mb.matmul(x=half(share, "mean"), y=patches)


def write_outputs(writer: Writer, states: Sequence[Var], looks: Var | None, probabilities: bool) -> tuple[Var, ...]:
    """The outputs of the program, in their order; `probabilities` adds the softmax of the logits.

    Args:
        looks: `[B, 1, N]`, where the core tokens look, if that is an output.
    """
    mb, wanted = writer.mb, writer.spec.outputs
    ends = ProgramTokens(writer, states)
    made: dict[str, Var] = {}
    if "cls" in wanted:
        made["cls"] = mb.squeeze(x=ends.tokens(ends.last, Tokens.CLS), axes=[1])
    if "dense" in wanted:
        made["dense"] = ends.tokens(ends.last, Tokens.PATCHES)
    if looks is not None:
        rows, columns = writer.config.grid(*writer.spec.image_size)
        made["attention"] = mb.reshape(x=looks, shape=[writer.batch, rows, columns])
    for head in active_heads(writer.weights.heads, wanted):
        made.update(_answers(writer, head, _scores(writer, head, ends)))
    if probabilities:
        made["probabilities"] = mb.softmax(x=made["logits"], axis=-1)
    results = [name for name in (*wanted, "probabilities") if name in made]
    for name in results:
        made[name].name = name
    return tuple(made[name] for name in results)


def _scores(writer: Writer, head: Head, ends: ProgramTokens) -> Var:
    """`[B, 1, K]` of a classifier, else `[B, N, K]`."""
    mb, total = writer.mb, None
    for i, term in enumerate(head.terms):
        name = f"head_{head.task}_{i}" if len(head.terms) > 1 else f"head_{head.task}"
        bias = half(head.bias if i == 0 else np.zeros_like(head.bias), name)
        weight = mb.const(val=half(term.weight, name), name=f"{name}_w")
        x = ends.tokens(term.block, term.tokens, head.normalised)
        product = mb.linear(x=x, weight=weight, bias=bias, name=name)
        total = product if total is None else mb.add(x=total, y=product)
    return total


def _answers(writer: Writer, head: Head, scores: Var) -> dict[str, Var]:
    """The head's outputs by name."""
    mb, spec = writer.mb, writer.spec
    if head.task == Task.CLASSIFY:
        return {"logits": mb.squeeze(x=scores, axes=[1])}
    rows, columns = writer.config.grid(*spec.image_size)
    scores = mb.reshape(x=scores, shape=[writer.batch, rows, columns, head.classes])
    if head.task == Task.DEPTH:
        return {"depth": _depth(writer, head, scores)}
    made = {}
    if "segmentation_logits" in spec.outputs:
        made["segmentation_logits"] = mb.transpose(x=scores, perm=[0, 3, 1, 2])
    if "segmentation" in spec.outputs:
        made["segmentation"] = mb.reduce_argmax(x=_resized(writer, scores, spec.map_size), axis=3, keep_dims=False)
    return made


def _depth(writer: Writer, head: Head, scores: Var) -> Var:
    """Scores `[B, h, w, K]` to metres `[B, H', W']`."""
    mb, form = writer.mb, depth_form(head)
    rows, columns = scores.shape[1] * head.upsampling, scores.shape[2] * head.upsampling
    raised = mb.relu(x=_resized(writer, scores, (rows, columns)))
    if form.values is None:
        metres = mb.add(x=raised, y=half(form.shifts, "depth"))
    else:
        values, shifts = half(form.values.T, "depth"), half(form.shifts, "depth")
        sums = mb.linear(x=raised, weight=values, bias=shifts, name="depth_sums")
        weighted, total = mb.split(x=sums, num_splits=2, axis=3)
        metres = mb.mul(x=mb.real_div(x=weighted, y=total), y=np.float16(form.scale))
    return mb.squeeze(x=_resized(writer, metres, writer.spec.map_size), axes=[3])


def _resized(writer: Writer, x: Var, size: tuple[int, int]) -> Var:
    """`[B, h, w, K]` resized bilinearly, by one matrix product for each side."""
    mb = writer.mb
    batch, rows, columns, channels = x.shape
    if rows != size[0]:
        x = mb.reshape(x=x, shape=[batch, rows, columns * channels])
        x = mb.matmul(x=half(bilinear_matrix(rows, size[0])[None], "rows"), y=x)
        x = mb.reshape(x=x, shape=[batch, size[0], columns, channels])
    if columns != size[1]:
        matrix = np.broadcast_to(bilinear_matrix(columns, size[1]), (batch, size[0], size[1], columns))
        x = mb.matmul(x=half(matrix[:, :1], "columns"), y=x)
    return x
