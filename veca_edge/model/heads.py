"""Task heads: what a linear head computes from VECA's tokens, in one exact form for every target.

Whatever a file holds (a linear probe, a BatchNorm before a 1x1 convolution, several layers joined) is folded into a sum
of products, one for each block and kind of token that the head reads:

    scores = sum of tokens(term) @ term.weight.T + bias

A 1x1 convolution commutes with bilinear upsampling, so scores are computed at patch resolution and upsampled after.
Upsampling by a fixed factor is two small matrix products, which every runtime computes alike (`bilinear_matrix`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from ..base.errors import EdgeError
from ..base.tasks import Task, Tokens

# What `relu` of a depth bin's score is raised by before the scores are normalised (AdaBins, DINOv2 and DINOv3).
DEPTH_EPSILON = 0.1
DEPTH_RANGE = (0.001, 10.0)


@dataclass(frozen=True)
class Term:
    """One product: float32 `weight` `[K, D]` on some tokens as they leave block `block` (counted from 0)."""

    block: int
    tokens: Tokens
    weight: np.ndarray


@dataclass(frozen=True)
class Head:
    """A linear head with K scores (classes, or bins of depth), for every core count.

    Attributes:
        bias: float32 `[K]`.
        normalised: whether it reads tokens behind the final LayerNorm (and the output projection), or before it.
        upsampling: factor by which depth's scores are upsampled before they are made depth; other tasks' is 1.
        depth_range: metres of the first and the last bin, or None for other tasks.
        labels: class names in the order of the scores, or None.
        resize: how the frames that it was fitted on were made (`--resize`, `--crop-ratio`), where its file says so.
        core_counts: those whose features it was fitted on; empty where its file does not say so.
    """

    task: Task
    terms: tuple[Term, ...]
    bias: np.ndarray
    normalised: bool = True
    upsampling: int = 1
    depth_range: tuple[float, float] | None = None
    labels: tuple[str, ...] | None = None
    resize: tuple[str, float] | None = None
    core_counts: tuple[int, ...] = ()

    @property
    def classes(self) -> int:
        """K."""
        return len(self.bias)

    @property
    def weight(self) -> np.ndarray:
        """The weights of all terms side by side, `[K, ...]`: of joined features in their order."""
        return np.concatenate([term.weight for term in self.terms], axis=1)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks that it reads, ascending."""
        return tuple(sorted({term.block for term in self.terms}))


class TermLike(Protocol):
    """What a term reads."""

    @property
    def block(self) -> int: ...

    @property
    def tokens(self) -> Tokens: ...


class LinearHead(Protocol):
    """What plans and costs ask of a head: `Head` is one, and so is what a manifest says of it."""

    @property
    def task(self) -> Task: ...

    @property
    def classes(self) -> int: ...

    @property
    def upsampling(self) -> int: ...

    @property
    def terms(self) -> Sequence[TermLike]: ...


AnyHead = TypeVar("AnyHead", bound=LinearHead)


def reads(head: LinearHead, block: int, *tokens: Tokens) -> bool:
    """Whether a head reads some of these tokens as they leave a block."""
    return any(term.block == block and term.tokens in tokens for term in head.terms)


def classifier(weight: np.ndarray, bias: np.ndarray, block: int, labels: tuple[str, ...] | None = None) -> Head:
    """The plain one: `weight` `[K, D]` and `bias` `[K]` on `cls` behind block `block`, which is the last."""
    term = Term(block, Tokens.CLS, np.ascontiguousarray(weight, np.float32))
    return Head(Task.CLASSIFY, (term,), np.ascontiguousarray(bias, np.float32), labels=labels)


def active_heads(heads: Sequence[AnyHead], outputs: Sequence[str]) -> tuple[AnyHead, ...]:
    """The heads that some outputs need.

    Raises:
        EdgeError: an output needs a head that is not there.
    """
    for task in Task:
        for name in task.outputs:
            if name in outputs and not any(head.task == task for head in heads):
                raise EdgeError(
                    f"The output '{name}' needs a {_KINDS[task]} head, and this checkpoint has none.",
                    f"Give one with --head FILE (or fit one: veca-edge fit --task {task}), or leave {name} out of "
                    "--outputs.",
                )
    return tuple(head for head in heads if set(head.task.outputs) & set(outputs))


_KINDS = {Task.CLASSIFY: "classifier", Task.SEGMENT: "segmentation", Task.DEPTH: "depth"}


def bilinear_matrix(source: int, target: int) -> np.ndarray:
    """float32 `[target, source]`: resizes a line of `source` samples bilinearly, without aligned corners.

    As `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` does without antialiasing.
    """
    at = np.maximum((np.arange(target) + 0.5) * source / target - 0.5, 0.0)
    low = np.minimum(at.astype(np.int64), source - 1)
    high, share = np.minimum(low + 1, source - 1), at - low
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target), low), 1.0 - share)
    np.add.at(matrix, (np.arange(target), high), share)
    return matrix.astype(np.float32)


@dataclass(frozen=True)
class DepthForm:
    """How scores become metres: `scale * (relu(scores) @ values + shifts)[0] / (...)[1]`.

    With bins, `values` `[K, 2]` and `shifts` `[2]` give the weighted sum of the bins and of ones, both divided by K
    and the bins by the largest, so that FP16 holds them. With one score it is metres: `relu(score) + shift`, and
    `values` is None.
    """

    values: np.ndarray | None
    shifts: np.ndarray
    scale: float


def depth_form(head: Head) -> DepthForm:
    """The constants of a depth head (DINOv3's `FeaturesToDepth`: linear bins, linear normalisation)."""
    assert head.depth_range is not None
    low, high = head.depth_range
    if head.classes == 1:
        return DepthForm(None, np.array([low], np.float32), 1.0)
    bins = np.linspace(low, high, head.classes) / high
    values = np.stack([bins, np.ones_like(bins)], axis=1) / head.classes
    return DepthForm(values.astype(np.float32), (DEPTH_EPSILON * values.sum(0)).astype(np.float32), high)
