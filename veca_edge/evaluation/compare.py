"""One evaluation against another of the same images: what got worse by more than is allowed, and is no chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..base.errors import EdgeError
from .metrics import METRICS, Metric, drawn_groups
from .statistics import TruthStatistics, VariantStatistics, unpacked_bits
from .store import Evaluation

# How likely chance may be to report anything at all, over everything that is compared.
ALPHA = 0.05
TOP1 = "top1"


@dataclass(frozen=True)
class Difference:
    """One metric of one variant in both.

    Attributes:
        worse: by how much it got worse; negative where it got better, nan where one of the two is not a number.
        chance: how likely it is that chance alone makes such a difference.
        test: what says so.
        is_regression: worse by more than the tolerance, and not by chance; or not a number any more.
    """

    variant: str
    metric: str
    baseline: float
    now: float
    worse: float
    chance: float
    test: str
    is_regression: bool


@dataclass(frozen=True)
class ReleaseComparison:
    """Everything that both evaluations have; `missing` are variants that only one of them has."""

    differences: tuple[Difference, ...]
    missing: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Difference, ...]:
        return tuple(d for d in self.differences if d.is_regression)


def compare(baseline: Evaluation, now: Evaluation, tolerance: float) -> ReleaseComparison:
    """Every metric of every variant of the same name.

    Args:
        tolerance: how much worse a metric may get: of shares, cosines and relative errors alike.

    Raises:
        EdgeError: they are of other data, or have no variant in common.
    """
    if baseline.facts.data_digest != now.facts.data_digest:
        raise EdgeError("The two evaluations are of other images.", "Evaluate both on the same data.")
    both = [name for name in now.totals.variants if name in baseline.totals.variants]
    missing = sorted(now.totals.variants.keys() ^ baseline.totals.variants.keys())
    if not both:
        raise EdgeError(
            "The two bundles have no variant in common.",
            f"The baseline has {', '.join(baseline.totals.variants)}; this one {', '.join(now.totals.variants)}.",
        )
    pairs = []
    for name in both:
        old, new = baseline.totals.variants[name], now.totals.variants[name]
        for metric in METRICS:
            if (found := _difference(metric, old, new)) is not None:
                pairs.append((name, metric, *found))
    if not pairs:
        raise EdgeError("The two evaluations have no metric in common.", "Give labelled data, or --checkpoint.")
    allowed = ALPHA / len(pairs)
    return ReleaseComparison(
        tuple(
            Difference(
                name,
                metric.name,
                old,
                new,
                metric.sign * (new - old),
                chance,
                test,
                not metric.sign * (new - old) <= tolerance and chance < allowed,
            )
            for name, metric, old, new, chance, test in pairs
        ),
        tuple(missing),
    )


def _difference(
    metric: Metric, old: VariantStatistics, new: VariantStatistics
) -> tuple[float, float, float, str] | None:
    """Old and new value, the chance and the test; None where one of the two does not have the metric."""
    before, after = metric.grouped(old), metric.grouped(new)
    if before is None or after is None:
        return None
    was, is_now = (float(of(rows.sum(0))) for rows, of in (before, after))
    if math.isnan(was) or math.isnan(is_now):
        # Outputs that are not numbers, if only of one image, are no chance: infinities of FP16, as a rule.
        return was, is_now, 1.0 if math.isnan(was) else 0.0, "not a number"
    if metric.name == TOP1:
        return was, is_now, mcnemar(*discordant(old.truth, new.truth)), "McNemar's exact test"
    # The same groups are drawn for both.
    return was, is_now, _chance(after[1](drawn_groups(after[0])) - before[1](drawn_groups(before[0]))), _BOOTSTRAP


_BOOTSTRAP = "paired bootstrap over groups of images"


def _chance(differences: np.ndarray) -> float:
    """Two-sided: by the normal distribution of the drawn differences, whose tails so many draws do not show."""
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return math.erfc(abs(mean) / spread / math.sqrt(2))


def discordant(old: TruthStatistics, new: TruthStatistics) -> tuple[int, int]:
    """Images that only the old one has right, and those that only the new one has."""
    lost = won = 0
    for key in old.right.keys() & new.right.keys():
        before, after = unpacked_bits(old.right[key]), unpacked_bits(new.right[key])
        count = min(len(before), len(after))
        before, after = before[:count], after[:count]
        known = before[:, 0] & after[:, 0]
        lost += int((known & before[:, 1] & ~after[:, 1]).sum())
        won += int((known & ~before[:, 1] & after[:, 1]).sum())
    return lost, won


def mcnemar(lost: int, won: int) -> float:
    """How likely a split at least as uneven is where both are equally likely: exact and two-sided (McNemar 1947)."""
    total, fewer = lost + won, min(lost, won)
    if lost == won:
        return 1.0
    half = total * math.log(2)
    whole = math.lgamma(total + 1)
    tail = math.fsum(math.exp(whole - math.lgamma(k + 1) - math.lgamma(total - k + 1) - half) for k in range(fewer + 1))
    return min(1.0, 2 * tail)
