"""The end of a Core ML program: final norm, projection, task heads, and the outputs asked for, in FP16."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...base.tasks import Task, Tokens
from ...model.heads import Head, active_heads, bilinear_matrix, depth_form
from ...model.plan import block_rows
from .writer import Var, Writer, half


class ProgramTokens:
    """The tokens of every block as the outputs read them, as rows `[B, S, D]`, each kind computed once.

    Args:
        states: what leaves every block, in the writer's layout: the core tokens in reverse, then the patches; of the
            last one only what is asked for.
    """

    def __init__(self, writer: Writer, states: Sequence[Var]):
        self.writer, self.states = writer, states
        self.last = len(states) - 1
        self.rows = block_rows(writer.spec, writer.config.layers, writer.weights.heads)[-1]
        self._known: dict[tuple[int, Tokens, bool], Var] = {}
        self._final: dict[int, Var] = {}

    def tokens(self, block: int, kind: Tokens, normalised: bool = True) -> Var:
        """`[B, 1, D]` of the first core token, `[B, N, D]` of the patches, or `[B, 1, D]` of their mean."""
        key = block, kind, normalised
        if key not in self._known:
            mb = self.writer.mb
            if kind == Tokens.MEAN:
                share = np.full((1, 1, self.writer.patches), 1 / self.writer.patches)
                made = mb.matmul(x=half(share, "mean"), y=self.tokens(block, Tokens.PATCHES, normalised))
            else:
                made = self._rows_of(self.final(block) if normalised else self.states[block], block, kind)
            self._known[key] = made
        return self._known[key]

    def _rows_of(self, x: Var, block: int, kind: Tokens) -> Var:
        writer, cores = self.writer, self.writer.cores if block < self.last else self.rows.core_queries
        start, stop = (cores - 1, cores) if kind == Tokens.CLS else (cores, cores + writer.patches)
        x = writer.rows(x, start, stop, writer.layout.token_axis)
        if kind == Tokens.CLS:
            return writer.mb.reshape(x=x, shape=[writer.batch, 1, x.shape[writer.layout.channel_axis]])
        return writer.layout.by_row(writer.mb, x)

    def final(self, block: int) -> Var:
        """Behind the final norm and the projection, which stays float where its calibration saw no such tokens."""
        if block not in self._final:
            writer, weights = self.writer, self.writer.weights
            name = "final_norm" if block == self.last else f"final_norm_{block}"
            x = writer.norm(self.states[block], weights.final_gain, name, weights.final_shift)
            if weights.output is not None:
                x = writer.linear(x, weights.output, "" if block == self.last else f"output_proj_{block}")
            self._final[block] = x
        return self._final[block]


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
