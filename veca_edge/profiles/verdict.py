"""Whether a lower precision is worth it: measured against the next higher one, and no more said than was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..base.spec import PRECISIONS
from .measurement import MAX_OTHER_LOAD, Measurement

RESAMPLES = 1000
CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959964  # of CONFIDENCE, two-sided
# Ratios are shown with two decimals: what lies nearer to 1 would read "1.00x faster".
SMALLEST_DIFFERENCE = 0.005


@dataclass(frozen=True)
class Speedup:
    """How many times faster one measurement is than another.

    Attributes:
        ratio: of a percentile of the times, the other's over this one's; above 1 this one is faster.
        interval: where the ratio lies with 95% confidence, as far as the samples can tell; it holds `ratio`.
        other_load: share of the machine's CPUs that other processes used during either, 0 to 1; 0 where unknown.
        samples: of the measurement that has fewer.
        needed_samples: so many a 95% interval of the percentile takes, whatever the times' distribution.
        rounds: of the measurement that has fewer; None where it is not known in how many one was taken.
    """

    ratio: float
    interval: tuple[float, float]
    other_load: float
    samples: int
    needed_samples: int
    rounds: int | None = None

    @property
    def is_measurable(self) -> bool:
        """Whether the machine was quiet enough, and the samples are enough, for the ratio to mean something."""
        return self.why_not is None

    @property
    def why_not(self) -> str | None:
        """Why there is no ratio to state, or None where there is one."""
        if self.other_load > MAX_OTHER_LOAD:
            return f"other processes used {self.other_load:.0%} of the CPU"
        if self.samples < self.needed_samples:
            return f"{self.samples} samples are too few, {self.needed_samples} are needed"
        if self.rounds is not None and self.rounds < 2:
            return "one round hides how rounds differ"
        return None

    @property
    def how_again(self) -> str:
        """How a measurement has to be repeated for a ratio, where `why_not` says that there is none."""
        if self.other_load > MAX_OTHER_LOAD:
            return "on a quiet machine"
        return "for longer" if self.samples < self.needed_samples else "in 2 rounds or more"

    @property
    def is_close(self) -> bool:
        """Whether no difference can be told: the interval holds 1, or comes so near that two decimals show none."""
        low, high = self.interval
        return low < 1 + SMALLEST_DIFFERENCE and high > 1 - SMALLEST_DIFFERENCE

    @property
    def is_known(self) -> bool:
        """Whether there is a ratio to state."""
        return self.is_measurable and not self.is_close

    @property
    def is_slower(self) -> bool:
        return self.is_known and self.ratio < 1

    @property
    def text(self) -> str:
        """`2.70x faster (2.61x to 2.79x)` of what is known, else why it is not."""
        if self.why_not is not None:
            return f"not measurable here: {self.why_not}"
        if self.is_close:
            return "no measurable difference"
        low, high = self.interval
        if self.ratio < 1:
            return f"{1 / self.ratio:.2f}x SLOWER ({1 / high:.2f}x to {1 / low:.2f}x)"
        return f"{self.ratio:.2f}x faster ({low:.2f}x to {high:.2f}x)"


def speedup(this: Measurement, other: Measurement, percent: float = 50.0) -> Speedup:
    """Compares a percentile (by default the median) of two measurements' samples."""
    ratio = other.percentile_ms(percent) / this.percentile_ms(percent)
    rng = np.random.default_rng(0)
    ratios = resampled_percentiles(other, percent, rng) / resampled_percentiles(this, percent, rng)
    low, high = np.quantile(ratios, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    wider = few_rounds_factor(len(rounds_of(this)), len(rounds_of(other)))
    # An interval of percentiles may lie beside the estimate itself where samples are few or skewed.
    low, high = (ratio * (bound / ratio) ** wider for bound in (min(float(low), ratio), max(float(high), ratio)))
    busy = max(other_load(this) or 0.0, other_load(other) or 0.0)
    samples = min(len(this.samples_ms), len(other.samples_ms))
    rounds = [len(m.round_sizes) for m in (this, other) if m.round_sizes]
    return Speedup(ratio, (low, high), busy, samples, samples_needed(percent / 100), min(rounds, default=None))


def few_rounds_factor(*rounds: int) -> float:
    """How many times wider, as a factor of log times, the interval is than resampling this few rounds makes it.

    Resampling R rounds finds a variance that is too small by (R - 1) / R, and takes it for the true one, which
    Student's quantile does not. 1 where a measurement has one round: how rounds differ cannot be told from it.
    """
    if min(rounds) < 2:
        return 1.0
    freedom = sum(rounds) - len(rounds)
    fewest = min(rounds)
    return float(np.sqrt(fewest / (fewest - 1)) * student_quantile(freedom) / NORMAL_QUANTILE)


def student_quantile(freedom: int) -> float:
    """Student's two-sided 95% quantile, by its expansion in 1 / freedom: within 3.5% for 2 degrees, 0.3% from 4 on."""
    z = NORMAL_QUANTILE
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def samples_needed(share: float) -> int:
    """The fewest samples whose extremes hold a percentile (`share` 0 to 1) with 95%: 6 for the median, 59 for p95."""
    if not 0.0 < share < 1.0:
        raise ValueError(f"no number of samples bounds the percentile {100 * share:g}")
    needed = 1
    while 1.0 - share**needed - (1.0 - share) ** needed < CONFIDENCE:
        needed += 1
    return needed


def rounds_of(measurement: Measurement) -> list[np.ndarray]:
    """The samples by round, milliseconds; all in one where it is not known how they were taken."""
    samples = np.asarray(measurement.samples_ms)
    rounds = np.split(samples, np.cumsum(measurement.round_sizes)[:-1]) if measurement.round_sizes else [samples]
    return [r for r in rounds if len(r)]


def resampled_percentiles(measurement: Measurement, percent: float, rng: np.random.Generator) -> np.ndarray:
    """A percentile of the samples as other runs would have found it, `[RESAMPLES]`.

    Bootstrap in two stages: rounds with replacement, then samples with replacement within each of them, because
    samples of one round share what the machine was doing then. A single round hides how rounds differ.
    """
    rounds = rounds_of(measurement)
    sizes = np.array([len(r) for r in rounds])
    longest = int(sizes.max())
    padded = np.full((len(rounds), longest), np.inf)
    for row, samples in zip(padded, rounds, strict=True):
        row[: len(samples)] = samples
    found = []
    # So many resamples at once as fit into some 30 MB.
    for count in _parts(RESAMPLES, max(1, 4_000_000 // padded.size)):
        chosen = rng.integers(len(rounds), size=(count, len(rounds), 1))
        drawn = (rng.random((count, len(rounds), longest)) * sizes[chosen]).astype(np.intp)
        times = np.where(np.arange(longest) < sizes[chosen], padded[chosen, drawn], np.inf)
        ordered = np.sort(times.reshape(count, -1), axis=1)
        found.append(_percentile_of_rows(ordered, sizes[chosen].sum(axis=(1, 2)), percent))
    return np.concatenate(found)


def _parts(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]


def _percentile_of_rows(ordered: np.ndarray, lengths: np.ndarray, percent: float) -> np.ndarray:
    """A percentile of the first `lengths` values of each row `[R, N]`, in ascending order; between two, linearly."""
    position = percent / 100 * (lengths - 1)
    below = np.floor(position).astype(np.intp)
    above = np.minimum(below + 1, lengths - 1)
    rows = np.arange(len(ordered))
    low, high = ordered[rows, below], ordered[rows, above]
    return low + (high - low) * (position - below)


def other_load(measurement: Measurement) -> float | None:
    """The largest share of the CPUs that other processes used during a round, 0 to 1; None where it is not known."""
    rounds = measurement.details.get("rounds")
    if not isinstance(rounds, (list, tuple)):
        return None
    loads = [r.get("other_load") for r in rounds if isinstance(r, dict)]
    return max((float(load) for load in loads if isinstance(load, (int, float))), default=None)


@dataclass(frozen=True)
class Verdict:
    """Two precisions of one variant, measured on one machine in the same way."""

    lower: Measurement
    higher: Measurement

    @cached_property
    def speed(self) -> Speedup:
        """Of the medians; above 1 the lower precision is faster."""
        return speedup(self.lower, self.higher)

    @property
    def speedup(self) -> float:
        """The ratio of the medians alone: to be stated only with `interval`, and only where `is_measurable`."""
        return self.speed.ratio

    @property
    def interval(self) -> tuple[float, float]:
        return self.speed.interval

    @property
    def is_measurable(self) -> bool:
        """False where other processes used the machine or samples are too few: then there is no ratio to state."""
        return self.speed.is_measurable

    @property
    def is_close(self) -> bool:
        """No difference can be told from the samples."""
        return self.is_measurable and self.speed.is_close

    @property
    def is_slower(self) -> bool:
        return self.speed.is_slower

    @property
    def size_ratio(self) -> float:
        return self.lower.file_bytes / self.higher.file_bytes

    @property
    def memory_ratio(self) -> float | None:
        if not self.lower.peak_memory_bytes or not self.higher.peak_memory_bytes:
            return None
        return self.lower.peak_memory_bytes / self.higher.peak_memory_bytes

    @property
    def is_doubtful(self) -> bool:
        """Something disturbed the measurement of either."""
        return bool(self.lower.warnings or self.higher.warnings)

    @property
    def sentence(self) -> str:
        """The plain result."""
        low, high, speed = self.lower.precision, self.higher.precision, self.speed
        where = f"at {self.lower.core_count} cores, {self.lower.image_size}"
        memory = "" if self.memory_ratio is None else f" and {self.memory_ratio:.2f}x the memory"
        rest = f"{self.size_ratio:.2f}x the size{memory}"
        if not speed.is_measurable:
            return (
                f"The speed of {low} against {high} {where} is {speed.text}; {rest}. Measure again {speed.how_again}."
            )
        doubt = " Measure again on a quiet machine before you rely on the times." if self.is_doubtful else ""
        if speed.is_close:
            return (
                f"There is no measurable difference in speed between {low} and {high} {where}: "
                f"{self.lower.p50_ms:.2f} against {self.higher.p50_ms:.2f} ms; {rest}.{doubt}"
            )
        kind, _, between = speed.text.partition(" (")
        if speed.is_slower:
            return (
                f"{low} is {kind} than {high} ({between} {where}: {self.lower.p50_ms:.2f} against "
                f"{self.higher.p50_ms:.2f} ms; {rest}. For latency, {high} is the better choice on this machine."
                f"{doubt}"
            )
        return f"{low} is {kind} than {high} ({between} {where}; {rest}.{doubt}"


def verdicts(measurements: Iterable[Measurement]) -> list[Verdict]:
    """Every precision against the next higher one that was measured of the same variant, in the same way."""
    groups: dict[tuple, dict[str, Measurement]] = defaultdict(dict)
    for m in measurements:
        same = (m.machine.machine_id, m.target, m.format, m.setting, m.threads, m.image_size, m.batch, m.core_count)
        groups[same][m.precision] = m
    found = []
    for by_precision in groups.values():
        ordered = [by_precision[p] for p in PRECISIONS if p in by_precision]
        found += [Verdict(low, high) for low, high in pairwise(ordered)]
    return found
