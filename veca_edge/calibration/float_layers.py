"""The fewest layers to leave float so that the others keep the gate in INT8."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from ..base.progress import Progress, silent
from ..model.config import ModelConfig
from ..model.folding import InferenceWeights
from ..proof.gate import Gate
from .recipe import QuantizationRecipe, quantized_variants
from .sensitivity import ComparedOutputs, agreement_of, measure_sensitivity, most_harmful_first, outputs_of, shares_of

Result = TypeVar("Result")


class Ranking(Protocol):
    """Quantized layers in the order in which they should become float, and what each number of them is worth.

    Attributes:
        ranked: all of them, those that INT8 harms most for their cost first.
    """

    @property
    def ranked(self) -> tuple[str, ...]: ...

    def excess(self, kept: int) -> float:
        """The worst loss with the first `kept` layers left float, as a multiple of what the gate allows, on images
        other than the judging ones."""
        ...


@dataclass(frozen=True)
class FloatLayerAsk:
    """For which core counts and outputs which gate has to hold."""

    core_counts: Sequence[int]
    outputs: ComparedOutputs
    gate: Gate


class FloatLayerSearch:
    """The ranking as calibration images see it."""

    def __init__(
        self,
        weights: InferenceWeights,
        recipe: QuantizationRecipe,
        frames: np.ndarray,
        asked: FloatLayerAsk,
        progress: Progress = silent,
    ):
        """Measures every layer. frames: uint8 `[n, H, W, 3]`."""
        layers = measure_sensitivity(
            weights, recipe, frames, asked.core_counts, progress=progress, outputs=asked.outputs
        )
        self.ranked = most_harmful_first(layers, asked.gate)
        self._weights, self._recipe, self._frames, self._asked = weights, recipe, frames, asked
        self._expected = {count: self._outputs(weights, count) for count in asked.core_counts}

    def _outputs(self, weights: InferenceWeights, core_count: int) -> dict[str, np.ndarray]:
        return outputs_of(weights, self._frames, core_count, self._asked.outputs)

    def excess(self, kept: int) -> float:
        """The worst loss over the core counts with the first `kept` layers left float."""
        mixed = quantized_variants(self._weights, self._recipe, tuple(self._expected), self.ranked[:kept])
        worst = 0.0
        for count, expected in self._expected.items():
            found = agreement_of(self._outputs(mixed[count], count), expected)
            worst = max(worst, self._asked.gate.excess(found))
        return worst


def fewest_float_layers(
    ranking: Ranking,
    result: Result,
    make: Callable[[tuple[str, ...]], Result],
    missed: Callable[[Result], float | None],
) -> Result:
    """Leaves the fewest layers float with which the gate holds, and returns what was made with them.

    The ranking says how many it may take. Its images agree better than those that judge, so their error has to be
    smaller than what the gate allows by the factor that a miss shows between the two. Once the gate holds, fewer
    are tried. What `make` returned last is what this returns: it may leave files behind.

    Args:
        result: what was made with no layer left float.
        make: makes it with the named layers left float.
        missed: the worst loss of what misses the gate, as a multiple of what is allowed, or None where all holds.

    Returns:
        The result with the fewest layers; with all layers where even they are not enough.
    """
    made = too_few = 0
    while (worst := missed(result)) is not None:
        too_few = made
        if too_few == len(ranking.ranked):
            return result
        made = fewest(ranking, ranking.excess(too_few) / worst, at_least=too_few + 1 + too_few // 2)
        result = make(ranking.ranked[:made])
    enough = made
    while enough - too_few > 1:
        made = (too_few + enough) // 2
        result = make(ranking.ranked[:made])
        if missed(result) is None:
            enough = made
        else:
            too_few = made
    return result if made == enough else make(ranking.ranked[:enough])


def fewest(ranking: Ranking, allowed: float, at_least: int = 0) -> int:
    """The fewest layers that lose no more than `allowed`, and no fewer than `at_least`; all where that takes all."""
    low, high = min(at_least, len(ranking.ranked)), len(ranking.ranked)  # what is looked for lies in low..high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if ranking.excess(middle) <= allowed else (middle + 1, high)
    return high


def describe_float_layers(kept: Collection[str], recipe: QuantizationRecipe, config: ModelConfig) -> str:
    """One sentence for tables and manifests."""
    shares = shares_of(config, recipe)
    share = sum(shares[name] for name in kept)
    return (
        f"{len(kept)} of {len(recipe.linears)} layers stay float to reach the gate "
        f"({share:.0%} of the weights): {', '.join(kept)}"
    )
