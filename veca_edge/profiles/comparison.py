"""The times of one release or board beside another's, variant by variant, and what the samples can tell of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ..base.text import counted
from .measurement import Measurement
from .verdict import Speedup, samples_needed, speedup

DEFAULT_MAX_SLOWDOWN = 0.05
MEDIAN, TAIL = 50.0, 95.0


@dataclass(frozen=True)
class Change:
    """A percentile of the times after, against the same before.

    Attributes:
        percent: which; 50 is the median.
        max_slowdown: a share; a slowdown beyond it that the samples prove is a regression.
    """

    before: Measurement
    after: Measurement
    percent: float
    max_slowdown: float

    @cached_property
    def speed(self) -> Speedup:
        """Of what came after against what was before; above 1 it got faster."""
        return speedup(self.after, self.before, self.percent)

    @property
    def slowdown(self) -> float:
        """Share of the time before that it takes longer; negative where it got faster."""
        return 1 / self.speed.ratio - 1

    @property
    def interval(self) -> tuple[float, float]:
        """Where `slowdown` lies with 95% confidence, as far as the samples can tell."""
        low, high = self.speed.interval
        return 1 / high - 1, 1 / low - 1

    @property
    def is_regression(self) -> bool:
        """Slower beyond doubt, and by more than is allowed."""
        return self.speed.is_slower and self.slowdown > self.max_slowdown

    @property
    def is_open(self) -> bool:
        """Neither a regression, nor can one be excluded."""
        return not self.is_regression and (not self.speed.is_measurable or self.interval[1] > self.max_slowdown)

    @property
    def text(self) -> str:
        """`+8.1% (+6.5% to +9.8%)`, or why there is nothing to say."""
        if not self.speed.is_measurable:
            return self.speed.text
        low, high = self.interval
        return f"{self.slowdown:+.1%} ({low:+.1%} to {high:+.1%})"

    @property
    def verdict(self) -> str:
        """One word or a few."""
        if not self.speed.is_measurable:
            return "not measurable"
        if self.is_regression:
            return "SLOWER"
        if self.is_open:
            return "too few samples to tell"
        if self.speed.is_close:
            return "the same"
        return "slower, within what is allowed" if self.slowdown > 0 else "faster"


@dataclass(frozen=True)
class ComparedVariant:
    """A variant that both sides have measured in the same way.

    Attributes:
        median: of the medians.
        tail: of the 95th percentiles; None where either has too few samples for one.
    """

    before: Measurement
    after: Measurement
    median: Change
    tail: Change | None

    @property
    def name(self) -> str:
        """`16 cores, int8, 256x256, 2 threads, 15W`."""
        return name_of(self.before)

    @property
    def changes(self) -> tuple[Change, ...]:
        return (self.median,) if self.tail is None else (self.median, self.tail)

    @property
    def is_regression(self) -> bool:
        return any(change.is_regression for change in self.changes)

    @property
    def memory_ratio(self) -> float | None:
        """Peak memory after over before; None where it was not measured."""
        if not self.before.peak_memory_bytes or not self.after.peak_memory_bytes:
            return None
        return self.after.peak_memory_bytes / self.before.peak_memory_bytes

    @property
    def has_one_run(self) -> bool:
        """Whether either was measured in one run, which hides how runs differ."""
        return min(len(self.before.round_sizes), len(self.after.round_sizes)) < 2


def name_of(measurement: Measurement) -> str:
    """`16 cores, int8, 256x256, 2 threads`: the variant and the setting that were measured."""
    m = measurement
    threads = counted(m.threads, "thread") if m.threads else ""
    parts = (f"{m.core_count} cores", m.precision, str(m.image_size), threads, m.setting)
    return ", ".join(part for part in parts if part)


def compared(
    before: Iterable[Measurement], after: Iterable[Measurement], max_slowdown: float = DEFAULT_MAX_SLOWDOWN
) -> tuple[list[ComparedVariant], list[Measurement], list[Measurement]]:
    """Variants that both sides have in the same setting, and what only the first and only the second has.

    The machine is the caller's choice: each side holds measurements of one.
    """
    first, second = ({_same(m): m for m in side} for side in (before, after))
    found = []
    for key in first.keys() & second.keys():
        a, b = first[key], second[key]
        samples = min(len(a.samples_ms), len(b.samples_ms))
        tail = Change(a, b, TAIL, max_slowdown) if samples >= samples_needed(TAIL / 100) else None
        found.append(ComparedVariant(a, b, Change(a, b, MEDIAN, max_slowdown), tail))
    return (
        sorted(found, key=lambda pair: _order(pair.before)),
        sorted((first[key] for key in first.keys() - second.keys()), key=_order),
        sorted((second[key] for key in second.keys() - first.keys()), key=_order),
    )


def _same(m: Measurement) -> tuple:
    return (m.target, m.format, m.artifact, m.batch, m.setting, m.threads)


def _order(m: Measurement) -> tuple:
    return (m.image_size, m.core_count, m.precision, m.setting, m.threads or 0)
