"""Which tokens the outputs of a graph read, whatever it is written in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from ..base.spec import GraphSpec
from ..base.tasks import Tokens
from ..model.folding import InferenceWeights
from ..model.plan import block_rows

Value = TypeVar("Value")  # a tensor of the graph, as its writer names one


class BlockTokens(ABC, Generic[Value]):
    """The tokens of every block as the outputs read them, each kind written once.

    Args:
        states: what leaves every block, core tokens and patches, as the writer lays them out; of the last block only
            what is asked for.
    """

    def __init__(self, weights: InferenceWeights, spec: GraphSpec, states: Sequence[Value]):
        self.states = states
        self.last = len(states) - 1
        self.rows = block_rows(spec, weights.config.layers, weights.heads)
        self._known: dict[tuple[int, Tokens, bool], Value] = {}
        self._finals: dict[int, Value] = {}

    def tokens(self, block: int, kind: Tokens, normalised: bool = True) -> Value:
        """`[B, 1, D]` of the first core token, `[B, N, D]` of the patches, or `[B, 1, D]` of their mean.

        Args:
            normalised: behind the final norm and the projection.
        """
        key = block, kind, normalised
        if key not in self._known:
            if kind == Tokens.MEAN:
                made = self.mean(self.tokens(block, Tokens.PATCHES, normalised))
            else:
                made = self.normalised(block, kind) if normalised else self.part(self.states[block], block, kind)
            self._known[key] = made
        return self._known[key]

    def normalised(self, block: int, kind: Tokens) -> Value:
        return self.part(self.final(block), block, kind)

    def final(self, block: int) -> Value:
        if block not in self._finals:
            self._finals[block] = self.finish(block)
        return self._finals[block]

    @abstractmethod
    def finish(self, block: int) -> Value:
        """All that leaves a block, behind the final norm and the projection; that stays float where its calibration
        saw no such tokens."""

    @abstractmethod
    def part(self, x: Value, block: int, kind: Tokens) -> Value:
        """The first core token or the patches of what leaves a block."""

    @abstractmethod
    def mean(self, patches: Value) -> Value:
        """`[B, 1, D]` of patches `[B, N, D]`."""
