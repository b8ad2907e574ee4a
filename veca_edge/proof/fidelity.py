"""How close an artifact stays to the float32 reference: cosines per image and per patch, and top-1.

Everything is accumulated image by image, so any number of images can be compared. Only numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..base.spec import ImageSize


@dataclass(frozen=True)
class CosineStatistics:
    """Cosine similarity over many vectors: one per image for `cls`, one per patch for `dense`.

    Attributes:
        first_percentile: 1% of the vectors are worse than this.
        worst: the least similar vector of all.
    """

    mean: float
    first_percentile: float
    worst: float

    @classmethod
    def of(cls, cosines: np.ndarray) -> CosineStatistics:
        return cls(float(cosines.mean()), float(np.percentile(cosines, 1)), float(cosines.min()))


@dataclass(frozen=True)
class Agreement:
    """One set of outputs against another, over `images` images.

    Attributes:
        cls, dense: None where the artifact has no such output.
        top1_agreement: share of images with the same most likely class, or None without a head.
        top1: share of images whose most likely class is right, or None without labels.
    """

    images: int
    cls: CosineStatistics | None
    dense: CosineStatistics | None
    top1_agreement: float | None = None
    top1: float | None = None

    @property
    def lowest_mean(self) -> float:
        """What the gate looks at: the lower of the two mean cosines (top-1 agreement where neither is an output)."""
        means = [s.mean for s in (self.cls, self.dense) if s is not None]
        return min(means) if means else float(self.top1_agreement or 0.0)

    def to_json(self) -> dict[str, Any]:
        def stats(s: CosineStatistics | None) -> dict[str, float] | None:
            return s and {"mean": s.mean, "first_percentile": s.first_percentile, "worst": s.worst}

        return {
            "images": self.images,
            "cls": stats(self.cls),
            "dense": stats(self.dense),
            "top1_agreement": self.top1_agreement,
            "top1": self.top1,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Agreement:
        def stats(name: str) -> CosineStatistics | None:
            return CosineStatistics(**value[name]) if value[name] else None

        return cls(value["images"], stats("cls"), stats("dense"), value["top1_agreement"], value["top1"])


@dataclass(frozen=True)
class Fidelity:
    """One variant's fidelity.

    Attributes:
        reference: against the float32 model at the variant's own core count (what conversion and
            quantization cost).
        elastic: against the float32 model at the full core bank (what fewer cores cost on top).
        reference_top1: the float32 model's own top-1 at this core count, or None without labels.
    """

    core_count: int
    precision: str
    image_size: ImageSize
    reference: Agreement
    elastic: Agreement
    reference_top1: float | None = None

    @property
    def name(self) -> str:
        return f"cores{self.core_count}_{self.precision}_{self.image_size}"

    def to_json(self) -> dict[str, Any]:
        return {
            "core_count": self.core_count,
            "precision": self.precision,
            "image_size": list(self.image_size),
            "reference": self.reference.to_json(),
            "elastic": self.elastic.to_json(),
            "reference_top1": self.reference_top1,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Fidelity:
        return cls(
            value["core_count"],
            value["precision"],
            ImageSize(*value["image_size"]),
            Agreement.from_json(value["reference"]),
            Agreement.from_json(value["elastic"]),
            value["reference_top1"],
        )


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine along the last axis, float64. Two zero vectors are alike; one alone is not."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    both_zero = ~a.any(axis=-1) & ~b.any(axis=-1)
    return np.where(both_zero, 1.0, (a * b).sum(-1) / np.where(norms == 0, 1.0, norms))


@dataclass
class Comparison:
    """Collects outputs of one artifact beside the expected ones, batch by batch."""

    cosines: dict[str, list[np.ndarray]] = field(default_factory=lambda: {"cls": [], "dense": []})
    predicted: list[np.ndarray] = field(default_factory=list)
    expected: list[np.ndarray] = field(default_factory=list)
    images: int = 0

    def add(self, outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
        """Both `cls` `[n, D]`, `dense` `[n, N, D]`, `logits` `[n, K]`, as far as they have them."""
        self.images += len(next(iter(outputs.values())))
        for name, collected in self.cosines.items():
            if name in outputs and name in expected:
                collected.append(cosine(outputs[name], expected[name]).ravel())
        if "logits" in outputs and "logits" in expected:
            self.predicted.append(outputs["logits"].argmax(-1))
            self.expected.append(expected["logits"].argmax(-1))

    def agreement(self, labels: np.ndarray | None = None) -> Agreement:
        def stats(name: str) -> CosineStatistics | None:
            return CosineStatistics.of(np.concatenate(self.cosines[name])) if self.cosines[name] else None

        agreed = right = None
        if self.predicted:
            predicted = np.concatenate(self.predicted)
            agreed = float((predicted == np.concatenate(self.expected)).mean())
            right = None if labels is None else float((predicted == labels).mean())
        return Agreement(self.images, stats("cls"), stats("dense"), agreed, right)
