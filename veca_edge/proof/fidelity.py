"""How close an artifact stays to the float32 reference: cosines per image and per patch, and each task's own metric.

Everything is accumulated image by image, so any number of images can be compared. Only numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..bundle.types import Agreement, CosineStatistics, DepthAgreement, Fidelity, MapAgreement

__all__ = (
    "Agreement",
    "Comparison",
    "CosineStatistics",
    "DepthAgreement",
    "DepthDifferences",
    "DepthErrors",
    "Fidelity",
    "LabelCounts",
    "MapAgreement",
    "Truth",
    "cosine",
    "counted_labels",
    "depth_differences",
    "labels_of",
    "likeness",
    "output_cosines",
    "statistics_of",
)


def statistics_of(cosines: np.ndarray) -> CosineStatistics:
    """Mean, first percentile and lowest of cosines `[n]`."""
    return CosineStatistics(float(cosines.mean()), float(np.percentile(cosines, 1)), float(cosines.min()))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine along the last axis, float64. Two zero vectors are alike; one alone is not."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    both_zero = ~a.any(axis=-1) & ~b.any(axis=-1)
    return np.where(both_zero, 1.0, (a * b).sum(-1) / np.where(norms == 0, 1.0, norms))


def output_cosines(name: str, value: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Cosines of an output's vectors: attention `[..., h, w]` is one, class scores `[..., K, h, w]` are one a patch."""
    if name == "attention":
        value, expected = (a.reshape(*a.shape[:-2], -1) for a in (value, expected))
    elif name == "segmentation_logits":
        value, expected = np.moveaxis(value, -3, -1), np.moveaxis(expected, -3, -1)
    return cosine(value, expected)


def labels_of(
    outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Class indices of both: of the maps, or of the patches where only `segmentation_logits` `[..., K, h, w]` are."""
    if "segmentation" in outputs and "segmentation" in expected:
        return outputs["segmentation"], expected["segmentation"]
    if "segmentation_logits" in outputs and "segmentation_logits" in expected:
        return outputs["segmentation_logits"].argmax(-3), expected["segmentation_logits"].argmax(-3)
    return None


def likeness(name: str, value: np.ndarray, expected: np.ndarray) -> float:
    """How alike two of an output are, at most 1: mean cosine, share of equal labels, or 1 - mean depth difference."""
    if name == "segmentation":
        return float((value == expected).mean())
    if name == "depth":
        return 1.0 - float(np.mean(np.abs(value - expected) / np.maximum(np.abs(expected), 1e-6)))
    return float(output_cosines(name, value, expected).mean())


# Outputs that are compared by their directions: vectors, and a map as one.
COSINES = ("cls", "dense", "attention")
# Depths that differ by less than this factor are close (delta1).
CLOSE = 1.25


def counted_labels(labels: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class indices found and expected, int64 `[pixels]`: of the pixels where `expected` is not negative."""
    counted = expected >= 0
    return labels[counted].astype(np.int64), expected[counted].astype(np.int64)


class DepthDifferences(NamedTuple):
    """Float64 `[pixels]`: |depth - expected| / expected and squared metres; `close` is how many are close."""

    relative: np.ndarray
    squares: np.ndarray
    close: int


def depth_differences(depth: np.ndarray, expected: np.ndarray) -> DepthDifferences | None:
    """Of the pixels where `expected`, metres, is above 0; None where there are none."""
    counted = expected > 0
    found, wanted = depth[counted].astype(np.float64), expected[counted].astype(np.float64)
    if not len(found):
        return None
    difference = np.abs(found - wanted)
    with np.errstate(divide="ignore", invalid="ignore"):
        close = np.maximum(found / wanted, wanted / found) < CLOSE
    return DepthDifferences(difference / wanted, difference**2, int(close.sum()))


@dataclass
class LabelCounts:
    """Collects label maps beside the expected ones: how many pixels of each pair of classes."""

    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def add(self, labels: np.ndarray, expected: np.ndarray) -> None:
        """Class indices of any shape, the same for both; pixels where `expected` is negative are not counted."""
        found, wanted = counted_labels(labels, expected)
        classes = max(len(self.pairs), int(found.max(initial=-1)) + 1, int(wanted.max(initial=-1)) + 1)
        grown = np.zeros((classes, classes), np.int64)
        grown[: len(self.pairs), : len(self.pairs)] = self.pairs
        self.pairs = grown + np.bincount(wanted * classes + found, minlength=classes**2).reshape(classes, classes)

    def agreement(self) -> MapAgreement | None:
        """None where no pixel was counted."""
        total = self.pairs.sum()
        if not total:
            return None
        same = np.diag(self.pairs)
        either = self.pairs.sum(0) + self.pairs.sum(1) - same
        there = np.flatnonzero(either)
        overlaps = same[there] / either[there]
        worst = int(overlaps.argmin())
        return MapAgreement(
            float(same.sum() / total), float(overlaps.mean()), float(overlaps[worst]), int(there[worst])
        )


@dataclass
class DepthErrors:
    """Collects depth maps beside the expected ones."""

    pixels: int = 0
    relative: float = 0.0
    worst: float = 0.0
    close: int = 0
    squares: float = 0.0

    def add(self, depth: np.ndarray, expected: np.ndarray) -> None:
        """Metres, of any shape, the same for both; pixels where `expected` is not above 0 are not counted."""
        found = depth_differences(depth, expected)
        if found is None:
            return
        self.pixels += len(found.relative)
        self.relative += float(found.relative.sum())
        self.worst = float(np.maximum(self.worst, found.relative.max()))
        self.close += found.close
        self.squares += float(found.squares.sum())

    def agreement(self) -> DepthAgreement | None:
        """None where no pixel was counted."""
        if not self.pixels:
            return None
        return DepthAgreement(
            self.relative / self.pixels,
            self.worst,
            self.close / self.pixels,
            float(np.sqrt(self.squares / self.pixels)),
        )


@dataclass(frozen=True)
class Truth:
    """What images are known to show.

    Attributes:
        labels: class indices `[n]`, or None.
        masks: class indices `[n, H', W']` at the maps' size, negative where nobody labelled, or None.
        depth: metres `[n, H', W']`, 0 where unknown, or None.
    """

    labels: np.ndarray | None = None
    masks: np.ndarray | None = None
    depth: np.ndarray | None = None

    def of(self, start: int, stop: int) -> Truth:
        """Of the images start..stop."""
        return Truth(*(None if a is None else a[start:stop] for a in (self.labels, self.masks, self.depth)))


@dataclass
class Comparison:
    """Collects outputs of one artifact beside the expected ones, batch by batch."""

    cosines: dict[str, list[np.ndarray]] = field(default_factory=lambda: {name: [] for name in COSINES})
    predicted: list[np.ndarray] = field(default_factory=list)
    expected: list[np.ndarray] = field(default_factory=list)
    labels: LabelCounts = field(default_factory=LabelCounts)
    depth: DepthErrors = field(default_factory=DepthErrors)
    true_labels: LabelCounts = field(default_factory=LabelCounts)
    true_depth: DepthErrors = field(default_factory=DepthErrors)
    images: int = 0

    def add(
        self, outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], truth: Truth | None = None
    ) -> None:
        """Both as far as they have them: `cls` `[n, D]`, `dense` `[n, N, D]`, `logits` `[n, K]`, `segmentation` and
        `depth` `[n, H', W']`, `segmentation_logits` `[n, K, h, w]`, `attention` `[n, h, w]`."""
        self.images += len(next(iter(outputs.values())))
        for name, collected in self.cosines.items():
            if name in outputs and name in expected:
                collected.append(output_cosines(name, outputs[name], expected[name]).ravel())
        if "logits" in outputs and "logits" in expected:
            self.predicted.append(outputs["logits"].argmax(-1))
            self.expected.append(expected["logits"].argmax(-1))
        if labels := labels_of(outputs, expected):
            self.labels.add(*labels)
        if "depth" in outputs and "depth" in expected:
            self.depth.add(outputs["depth"], expected["depth"])
        if truth and truth.masks is not None and "segmentation" in outputs:
            self.true_labels.add(outputs["segmentation"], truth.masks)
        if truth and truth.depth is not None and "depth" in outputs:
            self.true_depth.add(outputs["depth"], truth.depth)

    def agreement(self, labels: np.ndarray | None = None) -> Agreement:
        """All of it; `labels` `[images]` are the true classes."""

        def stats(name: str) -> CosineStatistics | None:
            return statistics_of(np.concatenate(self.cosines[name])) if self.cosines[name] else None

        agreed = right = None
        if self.predicted:
            predicted = np.concatenate(self.predicted)
            agreed = float((predicted == np.concatenate(self.expected)).mean())
            right = None if labels is None else float((predicted == labels).mean())
        return Agreement(
            self.images,
            stats("cls"),
            stats("dense"),
            agreed,
            right,
            self.labels.agreement(),
            self.depth.agreement(),
            self.true_labels.agreement(),
            self.true_depth.agreement(),
            stats("attention"),
        )
