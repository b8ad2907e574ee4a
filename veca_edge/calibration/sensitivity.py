"""What quantizing each layer does to the outputs.

Measured in the PyTorch simulation of the quantized model, which computes the integers that every target
computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..base.progress import Progress, silent
from ..base.spec import MAP_STRIDE, GraphSpec, ImageSize
from ..model.config import ModelConfig
from ..model.folding import InferenceWeights
from ..model.torch_graph import InferenceModel
from ..proof.fidelity import Agreement, Comparison
from .recipe import QuantizationRecipe, quantized_variants

BATCH = 8


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer in INT8, all others in float32, over all core counts measured.

    Attributes:
        share: of the multiply-accumulates of all quantized layers, which stands for its share of the time.
        agreement: by core count, the outputs against those of the float32 model.
    """

    name: str
    share: float
    agreement: Mapping[int, Agreement]

    @property
    def loss(self) -> float:
        """1 - the lowest mean cosine (`cls` or `dense`) over the core counts."""
        return 1.0 - min(a.lowest_mean for a in self.agreement.values())

    @property
    def loss_per_share(self) -> float:
        """What leaving it float buys for what it costs."""
        return self.loss / self.share


def measure_sensitivity(
    weights: InferenceWeights,
    recipe: QuantizationRecipe,
    frames: np.ndarray,
    core_counts: Sequence[int],
    labels: np.ndarray | None = None,
    progress: Progress = silent,
) -> tuple[LayerSensitivity, ...]:
    """Quantizes one layer at a time. Layers come back in the order of execution.

    Args:
        frames: uint8 `[n, H, W, 3]`.
        labels: class indices `[n]`, for top-1.
    """
    integer = quantized_variants(weights, recipe, core_counts)
    floating = quantized_variants(weights, recipe, core_counts, keep_float=tuple(recipe.linears))
    expected = {count: outputs_of(floating[count], frames, count) for count in core_counts}
    shares = shares_of(weights.config, recipe)
    found = []
    in_order = [name for name in weights.linears if name in recipe.linears]
    for i, name in enumerate(in_order):
        agreement = {}
        for count in core_counts:
            one = floating[count].with_linears({name: integer[count].linears[name]})
            agreement[count] = agreement_of(one, frames, count, expected[count], labels)
        found.append(LayerSensitivity(name, shares[name], agreement))
        progress("measuring layers", i + 1, len(in_order))
    return tuple(found)


def most_harmful_first(sensitivities: Sequence[LayerSensitivity]) -> tuple[str, ...]:
    """Layer names by harm per share of the time."""
    return tuple(s.name for s in sorted(sensitivities, key=lambda s: -s.loss_per_share))


def shares_of(config: ModelConfig, recipe: QuantizationRecipe) -> dict[str, float]:
    """Each layer's share of the weights, which is its share of the multiply-accumulates: all tokens pass each."""
    sizes = {name: len(layer.weight_scale) * len(layer.smoothing) for name, layer in recipe.linears.items()}
    total = sum(sizes.values())
    return {name: size / total for name, size in sizes.items()}


def outputs_of(
    weights: InferenceWeights,
    frames: np.ndarray,
    core_count: int,
    outputs: Sequence[str] = (),
    map_stride: int = MAP_STRIDE,
) -> dict[str, np.ndarray]:
    """Outputs for frames uint8 `[n, H, W, 3]`: by default `cls`, `dense` and what the heads say."""
    import torch

    names = tuple(outputs) or ("cls", "dense", *(head.task.outputs[0] for head in weights.heads))
    size, parts = ImageSize(*frames.shape[1:3]), []
    spec = GraphSpec(core_count, size, outputs=names, map_stride=map_stride)
    model, names = InferenceModel(weights, spec).eval(), spec.outputs
    with torch.inference_mode():
        for start in range(0, len(frames), BATCH):
            parts.append(model(torch.from_numpy(frames[start : start + BATCH])))
    return {name: torch.cat([part[i] for part in parts]).numpy() for i, name in enumerate(names)}


def agreement_of(
    weights: InferenceWeights,
    frames: np.ndarray,
    core_count: int,
    expected: Mapping[str, np.ndarray],
    labels: np.ndarray | None = None,
) -> Agreement:
    comparison = Comparison()
    comparison.add(outputs_of(weights, frames, core_count), expected)
    return comparison.agreement(labels)
