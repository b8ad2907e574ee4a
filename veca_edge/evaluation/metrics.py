"""What statistics say: metrics with their 95% intervals, and the same as a manifest's `Fidelity`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ..base.text import by_number
from ..bundle.types import Agreement, Bundle, CosineStatistics, DepthAgreement, Fidelity, MapAgreement
from .exact import GROUPS
from .statistics import (
    CosineSums,
    DepthSums,
    MapCounts,
    OutputStatistics,
    Shares,
    Totals,
    TruthStatistics,
    VariantStatistics,
    reference_key,
)
from .store import Evaluation

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class MetricValue:
    """A value with its 95% interval, over `images` drawn as these were."""

    value: float
    low: float
    high: float


# What a metric is made of: one row of numbers for each group of images, and the metric of rows that are added up.
Grouped = tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Metric:
    """One number of a variant.

    Attributes:
        name: for programs; `label`: for people.
        sign: -1 where more is better, 1 where less is.
        shares: what it counts, where it is a share of images; else `groups` says what it is made of.
    """

    name: str
    label: str
    sign: int
    shares: Callable[[VariantStatistics], Shares] | None = None
    groups: Callable[[VariantStatistics], Grouped | None] | None = None

    def estimate(self, statistics: VariantStatistics) -> MetricValue | None:
        """None where nothing was counted."""
        if self.shares is not None:
            counted = self.shares(statistics)
            return wilson(sum(counted.hits), sum(counted.total)) if sum(counted.total) else None
        return None if (grouped := self.grouped(statistics)) is None else resampled(*grouped)

    def grouped(self, statistics: VariantStatistics) -> Grouped | None:
        """None where nothing was counted."""
        if self.shares is not None:
            return _of_shares(self.shares(statistics))
        assert self.groups is not None
        return self.groups(statistics)


def _of_shares(shares: Shares) -> Grouped | None:
    return _ratio(shares.hits, shares.total)


def _ratio(tops: Sequence[float], bottoms: Sequence[float]) -> Grouped | None:
    if not sum(bottoms):
        return None
    return np.array([tops, bottoms], np.float64).T, lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1)


def _of_cosines(sums: CosineSums) -> Grouped | None:
    return _ratio([s.value for s in sums.sums], sums.images)


def _of_depth(sums: DepthSums) -> Grouped | None:
    return _ratio([s.value for s in sums.relative], sums.close.total)


def _of_squares(sums: DepthSums) -> Grouped | None:
    grouped = _ratio([s.value for s in sums.squares], sums.close.total)
    return grouped and (grouped[0], lambda rows: np.sqrt(grouped[1](rows)))


def _of_overlaps(counts: MapCounts) -> Grouped | None:
    """The mean, over the classes that occur, of intersection over union."""
    if not counts.overlaps:
        return None
    keys = [tuple(map(int, key.split(","))) for key in counts.overlaps]
    classes = {c: i for i, c in enumerate(sorted({c for _, c in keys}))}
    table = np.zeros((GROUPS, len(classes), 2))
    for (group, one), both_either in zip(keys, counts.overlaps.values(), strict=True):
        table[group, classes[one]] = both_either

    def miou(sums: np.ndarray) -> np.ndarray:
        both, either = np.moveaxis(sums.reshape(*sums.shape[:-1], len(classes), 2), -1, 0)
        there = either > 0
        return np.where(there, both / np.maximum(either, 1), 0).sum(-1) / np.maximum(there.sum(-1), 1)

    return table.reshape(GROUPS, -1), miou


METRICS = (
    Metric("top1", "top-1", -1, lambda v: v.truth.top1),
    Metric("top5", "top-5", -1, lambda v: v.truth.top5),
    Metric("miou", "mIoU", -1, groups=lambda v: _of_overlaps(v.truth.segmentation)),
    Metric("depth_error", "AbsRel", 1, groups=lambda v: _of_depth(v.truth.depth)),
    Metric("depth_rmse", "depth RMSE, m", 1, groups=lambda v: _of_squares(v.truth.depth)),
    Metric("cosine_cls", "cosine of cls", -1, groups=lambda v: _of_cosines(v.own.cls)),
    Metric("cosine_dense", "cosine of dense", -1, groups=lambda v: _of_cosines(v.own.dense)),
    Metric("cosine_attention", "cosine of attention", -1, groups=lambda v: _of_cosines(v.own.attention)),
    Metric("full_cosine_cls", "cosine of cls, full core bank", -1, groups=lambda v: _of_cosines(v.full.cls)),
    Metric("full_cosine_dense", "cosine of dense, full core bank", -1, groups=lambda v: _of_cosines(v.full.dense)),
    Metric("top1_agreement", "top-1 agreement", -1, lambda v: v.own.top1),
    Metric("pixel_agreement", "pixel agreement", -1, groups=lambda v: _of_shares(v.own.segmentation.pixels)),
    Metric("miou_agreement", "mIoU agreement", -1, groups=lambda v: _of_overlaps(v.own.segmentation)),
    Metric("depth_difference", "depth difference", 1, groups=lambda v: _of_depth(v.own.depth)),
)


def metrics_of(statistics: VariantStatistics) -> dict[str, MetricValue]:
    """Every metric that was counted, by name."""
    found = {metric.name: metric.estimate(statistics) for metric in METRICS}
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def reference_metrics(totals: Totals) -> dict[str, dict[str, MetricValue]]:
    """The float32 model's own metrics against the labels, by `reference_key`."""
    return {key: metrics_of(VariantStatistics(truth=truth)) for key, truth in totals.references.items()}


def metric_table(totals: Totals, reference: str) -> tuple[list[Metric], dict[str, dict[str, MetricValue]]]:
    """The metrics that some row has, and the rows by name: every variant, then the float32 model at each core count.

    Args:
        reference: what the names of the float32 model's rows begin with.
    """
    rows = {name: metrics_of(totals.variants[name]) for name in sorted(totals.variants, key=by_number)}
    references = reference_metrics(totals)
    rows |= {f"{reference}{key}": references[key] for key in sorted(references, key=by_number) if references[key]}
    return [m for m in METRICS if any(m.name in found for found in rows.values())], rows


# ------------------------------------------------------------------------------- intervals


def wilson(hits: int, total: int, level: float = LEVEL) -> MetricValue:
    """The score interval of a share (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, spread = hits / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    # What rounding leaves of the ends would not hold a share of 0 or 1.
    return MetricValue(share, centre - half if hits else 0.0, centre + half if hits < total else 1.0)


def drawn_groups(rows: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """Sums of rows drawn again, `[draws, columns]`: the same draws every time."""
    times = np.random.default_rng(0).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), draws)
    return times @ rows


def resampled(rows: np.ndarray, metric: Callable[[np.ndarray], np.ndarray]) -> MetricValue:
    """A metric with the interval that a bootstrap over groups of images gives it."""
    rows = rows[rows.any(1)]
    value = float(metric(rows.sum(0)))
    if len(rows) < 2 or not math.isfinite(value):
        return MetricValue(value, math.nan, math.nan)
    drawn = metric(drawn_groups(rows))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return MetricValue(value, float(low), float(high))


# ------------------------------------------------------------------------------- per class


@dataclass(frozen=True)
class ClassMetric:
    """Of one class: images (or pixels) that have it, and the share that is right, or its intersection over union."""

    index: int
    count: int
    share: MetricValue


def recalls(truth: TruthStatistics) -> list[ClassMetric]:
    """Top-1 of every class that occurs, in the order of their indices."""
    counts: dict[int, list[int]] = {}
    for key, count in truth.confusion.items():
        true, predicted = map(int, key.split(","))
        both = counts.setdefault(true, [0, 0])
        both[0] += count if true == predicted else 0
        both[1] += count
    return [ClassMetric(c, total, wilson(hits, total)) for c, (hits, total) in sorted(counts.items())]


def overlaps(counts: MapCounts) -> dict[int, tuple[int, float]]:
    """Pixels that have a class or are taken for it, and its intersection over union, by class."""
    sums: dict[int, list[int]] = {}
    for key, (both, either) in counts.overlaps.items():
        found = sums.setdefault(int(key.partition(",")[2]), [0, 0])
        found[0] += both
        found[1] += either
    return {c: (either, both / either) for c, (both, either) in sorted(sums.items())}


# ------------------------------------------------------------- as the manifest says fidelity


def fidelity_of(evaluation: Evaluation, bundle: Bundle) -> dict[str, Fidelity]:
    """The same as an export's fidelity, by variant; without cosines where nothing compared with the float32 model."""
    totals, found = evaluation.totals, {}
    for a in bundle.artifacts:
        statistics = totals.variants.get(a.name)
        if statistics is None:
            continue
        reference = totals.references.get(reference_key(a.core_count, a.image_size), TruthStatistics())
        found[a.name] = Fidelity(
            a.core_count,
            a.precision,
            a.image_size,
            _agreement(totals.images, statistics.own, statistics.truth),
            _agreement(totals.images, statistics.full, statistics.truth),
            _share(reference.top1),
            _maps(reference.segmentation),
            _depth(reference.depth),
        )
    return found


def _agreement(images: int, outputs: OutputStatistics, truth: TruthStatistics) -> Agreement:
    return Agreement(
        images,
        _cosines(outputs.cls),
        _cosines(outputs.dense),
        _share(outputs.top1),
        _share(truth.top1),
        _maps(outputs.segmentation),
        _depth(outputs.depth),
        _maps(truth.segmentation),
        _depth(truth.depth),
        _cosines(outputs.attention),
    )


def _cosines(sums: CosineSums) -> CosineStatistics | None:
    grouped = _of_cosines(sums)
    if grouped is None:
        return None
    mean = float(grouped[1](grouped[0].sum(0)))
    return CosineStatistics(mean, 1.0 - sums.losses.quantile(0.99), sums.lowest)


def _share(shares: Shares) -> float | None:
    return sum(shares.hits) / sum(shares.total) if sum(shares.total) else None


def _maps(counts: MapCounts) -> MapAgreement | None:
    pixels = _share(counts.pixels)
    if pixels is None:
        return None
    ious: Mapping[int, float] = {c: iou for c, (_, iou) in overlaps(counts).items()}
    worst = min(ious, key=lambda c: ious[c])
    return MapAgreement(pixels, sum(ious.values()) / len(ious), ious[worst], worst)


def _depth(sums: DepthSums) -> DepthAgreement | None:
    relative, squares = _of_depth(sums), _of_squares(sums)
    if relative is None or squares is None:
        return None
    mean, rmse = (float(metric(rows.sum(0))) for rows, metric in (relative, squares))
    return DepthAgreement(mean, sums.largest, _share(sums.close) or 0.0, rmse)
