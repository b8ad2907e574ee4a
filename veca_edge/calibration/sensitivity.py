"""What quantizing each layer does to the outputs.

Measured in the PyTorch simulation of the quantized model, which computes the integers that every target
computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..base.numbers import lowest
from ..base.progress import Progress, silent
from ..base.spec import MAP_STRIDE, GraphSpec, ImageSize
from ..model.config import ModelConfig
from ..model.folding import InferenceWeights
from ..model.torch_graph import InferenceModel
from ..proof.fidelity import Agreement, Comparison
from ..proof.gate import Gate
from .recipe import QuantizationRecipe, quantized_variants

BATCH = 8
# What a layer alone may harm, each 0 where nothing changes: features, or what a task says of the same images.
LOSSES: Mapping[str, Callable[[Agreement], float | None]] = {
    "cosine": lambda a: 1.0 - a.lowest_mean if a.cosines else None,
    "top1": lambda a: None if a.top1_agreement is None else 1.0 - a.top1_agreement,
    "miou": lambda a: None if a.segmentation is None else 1.0 - a.segmentation.miou,
    "depth": lambda a: None if a.depth is None else a.depth.mean_error,
}


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
        return 1.0 - lowest(a.lowest_mean for a in self.agreement.values())

    def loss_by(self, criterion: str) -> float | None:
        """The largest loss over the core counts by one of `LOSSES`; None where the model has no such output."""
        losses = (LOSSES[criterion](a) for a in self.agreement.values())
        return max((loss for loss in losses if loss is not None), default=None)

    def excess(self, gate: Gate) -> float:
        """The worst loss over the core counts as a multiple of what a gate allows."""
        return max(gate.excess(a) for a in self.agreement.values())


@dataclass(frozen=True)
class ComparedOutputs:
    """Which outputs are compared: () is `cls`, `dense` and what the heads say."""

    names: tuple[str, ...] = ()
    map_stride: int = MAP_STRIDE


ALL_OUTPUTS = ComparedOutputs()


def measure_sensitivity(
    weights: InferenceWeights,
    recipe: QuantizationRecipe,
    frames: np.ndarray,
    core_counts: Sequence[int],
    labels: np.ndarray | None = None,
    progress: Progress = silent,
    outputs: ComparedOutputs = ALL_OUTPUTS,
) -> tuple[LayerSensitivity, ...]:
    """Quantizes one layer at a time. Layers come back in the order of execution.

    Args:
        frames: uint8 `[n, H, W, 3]`.
        labels: class indices `[n]`, for top-1.
    """

    def outputs_at(variant: InferenceWeights, count: int) -> dict[str, np.ndarray]:
        return outputs_of(variant, frames, count, outputs)

    integer = quantized_variants(weights, recipe, core_counts)
    floating = quantized_variants(weights, recipe, core_counts, keep_float=tuple(recipe.linears))
    expected = {count: outputs_at(floating[count], count) for count in core_counts}
    shares = shares_of(weights.config, recipe)
    found = []
    in_order = [name for name in weights.linears if name in recipe.linears]
    for i, name in enumerate(in_order):
        agreement = {}
        for count in core_counts:
            one = floating[count].with_linears({name: integer[count].linears[name]})
            agreement[count] = agreement_of(outputs_at(one, count), expected[count], labels)
        found.append(LayerSensitivity(name, shares[name], agreement))
        progress("measuring layers", i + 1, len(in_order))
    return tuple(found)


def most_harmful_first(sensitivities: Sequence[LayerSensitivity], gate: Gate) -> tuple[str, ...]:
    """Layer names by how much of what a gate allows they take, for their share of the time."""
    return tuple(s.name for s in sorted(sensitivities, key=lambda s: (-s.excess(gate) / s.share, -s.loss / s.share)))


def shares_of(config: ModelConfig, recipe: QuantizationRecipe) -> dict[str, float]:
    """Each layer's share of the weights, which is its share of the multiply-accumulates: all tokens pass each."""
    sizes = {name: len(layer.weight_scale) * len(layer.smoothing) for name, layer in recipe.linears.items()}
    total = sum(sizes.values())
    return {name: size / total for name, size in sizes.items()}


def outputs_of(
    weights: InferenceWeights, frames: np.ndarray, core_count: int, outputs: ComparedOutputs = ALL_OUTPUTS
) -> dict[str, np.ndarray]:
    """Outputs for frames uint8 `[n, H, W, 3]`, by name."""
    import torch

    names = outputs.names or ("cls", "dense", *(head.task.outputs[0] for head in weights.heads))
    size, parts = ImageSize(*frames.shape[1:3]), []
    spec = GraphSpec(core_count, size, outputs=names, map_stride=outputs.map_stride)
    model, names = InferenceModel(weights, spec).eval(), spec.outputs
    with torch.inference_mode():
        for start in range(0, len(frames), BATCH):
            parts.append(model(torch.from_numpy(frames[start : start + BATCH])))
    return {name: torch.cat([part[i] for part in parts]).numpy() for i, name in enumerate(names)}


def agreement_of(
    outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], labels: np.ndarray | None = None
) -> Agreement:
    """Those of one variant against another's, see `Comparison.add`; `labels` `[n]` are the true classes."""
    comparison = Comparison()
    comparison.add(outputs, expected)
    return comparison.agreement(labels)
