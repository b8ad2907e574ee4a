"""The fewest layers to leave float so that the others keep the gate in INT8."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

import numpy as np

from ..base.progress import Progress, silent
from ..model.config import ModelConfig
from ..model.folding import InferenceWeights
from .recipe import QuantizationRecipe, quantized_variants
from .sensitivity import agreement_of, measure_sensitivity, most_harmful_first, outputs_of, shares_of

Result = TypeVar("Result")


class Ranking(Protocol):
    """Quantized layers in the order in which they should become float, and what each number of them is worth.

    Attributes:
        ranked: all of them, those that INT8 harms most for their cost first.
    """

    @property
    def ranked(self) -> tuple[str, ...]: ...

    def lowest_cosine(self, kept: int) -> float:
        """The lowest mean cosine with the first `kept` layers left float, on images other than the judging ones."""
        ...


class FloatLayerSearch:
    """The ranking as calibration images see it."""

    def __init__(
        self,
        weights: InferenceWeights,
        recipe: QuantizationRecipe,
        frames: np.ndarray,
        core_counts: Sequence[int],
        progress: Progress = silent,
    ):
        """Measures every layer. frames: uint8 `[n, H, W, 3]`."""
        self.ranked = most_harmful_first(measure_sensitivity(weights, recipe, frames, core_counts, progress=progress))
        self._weights, self._recipe, self._frames = weights, recipe, frames
        self._expected = {count: outputs_of(weights, frames, count) for count in core_counts}

    def lowest_cosine(self, kept: int) -> float:
        """The lowest mean cosine (`cls` or `dense`) over the core counts with the first `kept` layers left float."""
        mixed = quantized_variants(self._weights, self._recipe, tuple(self._expected), self.ranked[:kept])
        return min(
            agreement_of(mixed[count], self._frames, count, expected).lowest_mean
            for count, expected in self._expected.items()
        )


def fewest_float_layers(
    ranking: Ranking,
    result: Result,
    make: Callable[[tuple[str, ...]], Result],
    missed: Callable[[Result], float | None],
    min_cosine: float,
) -> Result:
    """Leaves the fewest layers float with which the gate holds, and returns what was made with them.

    The ranking says how many it may take. Its images agree better than those that judge, so their error has to be
    smaller than what the gate allows by the factor that a miss shows between the two. Once the gate holds, fewer
    are tried. What `make` returned last is what this returns: it may leave files behind.

    Args:
        result: what was made with no layer left float.
        make: makes it with the named layers left float.
        missed: the worst mean cosine of what misses the gate, or None where all of it holds.
        min_cosine: the gate.

    Returns:
        The result with the fewest layers; with all layers where even they are not enough.
    """
    made = too_few = 0
    while (worst := missed(result)) is not None:
        too_few = made
        if too_few == len(ranking.ranked):
            return result
        allowed = (1.0 - ranking.lowest_cosine(too_few)) / (1.0 - worst) * (1.0 - min_cosine)
        made = fewest(ranking, 1.0 - allowed, at_least=too_few + 1 + too_few // 2)
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


def fewest(ranking: Ranking, min_cosine: float, at_least: int = 0) -> int:
    """The fewest layers that reach `min_cosine`, and no fewer than `at_least`; all where nothing less is enough."""
    low, high = min(at_least, len(ranking.ranked)), len(ranking.ranked)  # what is looked for lies in low..high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if ranking.lowest_cosine(middle) >= min_cosine else (middle + 1, high)
    return high


def describe_float_layers(kept: Collection[str], recipe: QuantizationRecipe, config: ModelConfig) -> str:
    """One sentence for tables and manifests."""
    shares = shares_of(config, recipe)
    share = sum(shares[name] for name in kept)
    return (
        f"{len(kept)} of {len(recipe.linears)} layers stay float to reach the gate "
        f"({share:.0%} of the weights): {', '.join(kept)}"
    )
