"""What part of the model a layer of an engine is, from the names that TensorRT gives fused layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..measurement import Measurement

# A name says more than this only where it lists many fused nodes.
_SEARCHED_CHARACTERS = 20_000


@dataclass(frozen=True)
class ModelPart:
    """What one layer of an engine computes.

    Attributes:
        first, last: the blocks of the model that it covers; None outside the blocks.
        linear: the linear layer (`fc1`, `qkv`), or "" for anything else of a block.
        patch_embedding: whether it is the patch embedding.
    """

    first: int | None = None
    last: int | None = None
    linear: str = ""
    patch_embedding: bool = False

    @property
    def name(self) -> str:
        """`blocks.3.fc1`, `blocks.3 attention and the rest`, `blocks.0 to blocks.5`, `patch_embed`, ..."""
        if self.first is None:
            return "patch_embed" if self.patch_embedding else "outside the blocks"
        if self.first != self.last:
            return f"blocks.{self.first} to blocks.{self.last}"
        return f"blocks.{self.first}.{self.linear}" if self.linear else f"blocks.{self.first} attention and the rest"


def model_part(name: str) -> ModelPart:
    """Reads the name of an engine's layer, which may be fused from several nodes."""
    name = name[:_SEARCHED_CHARACTERS]
    blocks = sorted({int(number) for number in re.findall(r"blocks\.([0-9]{1,4})", name)})
    if not blocks:
        return ModelPart(patch_embedding="patch_embed" in name)
    if len(blocks) > 1:
        return ModelPart(blocks[0], blocks[-1])
    linear = re.search(r"blocks\.[0-9]+\.(qkv|[qkv]|out|fc1|fc2|coordinates)\b", name)
    kind = linear[1] if linear else ""
    return ModelPart(blocks[0], blocks[0], "qkv" if kind in ("q", "k", "v") else kind)


@dataclass(frozen=True)
class LayerLoss:
    """A part of the model that took longer in the lower precision, in ms per call."""

    part: str
    lower_ms: float
    higher_ms: float


def losing_layers(lower: Measurement, higher: Measurement) -> list[LayerLoss] | None:
    """Which parts of the model lost in the lower precision, the worst first; None where layers were not measured.

    TensorRT fuses each precision in its own way, so times are summed by the part of the model that a
    layer's name says it belongs to; parts that only one engine has as such are not compared.
    """
    low_layers, high_layers = (m.facts.layers for m in (lower, higher))
    if not low_layers or not high_layers:
        return None
    low, high = _by_part(low_layers), _by_part(high_layers)
    found = [LayerLoss(part, low[part], high[part]) for part in low if part in high and low[part] > high[part]]
    return sorted(found, key=lambda loss: loss.higher_ms - loss.lower_ms)


def _by_part(layers: Sequence[tuple[str, float]]) -> Mapping[str, float]:
    total: dict[str, float] = {}
    for name, ms in layers:
        part = model_part(name).name
        total[part] = total.get(part, 0.0) + ms
    return total
