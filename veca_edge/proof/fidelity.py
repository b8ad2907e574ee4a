"""How close an artifact stays to the float32 reference: cosines per image and per patch, and top-1.

Everything is accumulated image by image, so any number of images can be compared. Only numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..bundle.types import Agreement, CosineStatistics, Fidelity

__all__ = ("Agreement", "Comparison", "CosineStatistics", "Fidelity", "cosine", "statistics_of")


def statistics_of(cosines: np.ndarray) -> CosineStatistics:
    return CosineStatistics(float(cosines.mean()), float(np.percentile(cosines, 1)), float(cosines.min()))


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
            return statistics_of(np.concatenate(self.cosines[name])) if self.cosines[name] else None

        agreed = right = None
        if self.predicted:
            predicted = np.concatenate(self.predicted)
            agreed = float((predicted == np.concatenate(self.expected)).mean())
            right = None if labels is None else float((predicted == labels).mean())
        return Agreement(self.images, stats("cls"), stats("dense"), agreed, right)
