"""Whether a lower precision is worth it: measured against the next higher one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from ..base.spec import PRECISIONS
from .measurement import Measurement


@dataclass(frozen=True)
class Verdict:
    """Two precisions of one variant, measured on one machine in the same way."""

    lower: Measurement
    higher: Measurement

    @property
    def speedup(self) -> float:
        """Above 1 the lower precision is faster (medians)."""
        return self.higher.p50_ms / self.lower.p50_ms

    @property
    def size_ratio(self) -> float:
        return self.lower.file_bytes / self.higher.file_bytes

    @property
    def memory_ratio(self) -> float | None:
        if not self.lower.peak_memory_bytes or not self.higher.peak_memory_bytes:
            return None
        return self.lower.peak_memory_bytes / self.higher.peak_memory_bytes

    @property
    def is_slower(self) -> bool:
        return self.speedup < 1

    @property
    def is_close(self) -> bool:
        """The medians differ by less than the samples of either are spread."""
        return abs(self.speedup - 1) <= max(self.lower.spread, self.higher.spread)

    @property
    def is_doubtful(self) -> bool:
        """Something disturbed the measurement of either."""
        return bool(self.lower.warnings or self.higher.warnings)

    @property
    def sentence(self) -> str:
        """The plain result."""
        low, high = self.lower.precision, self.higher.precision
        where = f"at {self.lower.core_count} cores, {self.lower.image_size}"
        memory = "" if self.memory_ratio is None else f" and {self.memory_ratio:.2f}x the memory"
        rest = f"{self.size_ratio:.2f}x the size{memory}"
        doubt = " Measure again on a quiet machine before you rely on the times." if self.is_doubtful else ""
        if self.is_close:
            return (
                f"{low} is no faster than {high} {where}: {self.lower.p50_ms:.2f} against "
                f"{self.higher.p50_ms:.2f} ms, within the spread of the samples; {rest}.{doubt}"
            )
        if self.is_slower:
            return (
                f"{low} is {1 / self.speedup:.2f}x SLOWER than {high} {where}: {self.lower.p50_ms:.2f} against "
                f"{self.higher.p50_ms:.2f} ms; {rest}. For latency, {high} is the better choice on this machine."
                f"{doubt}"
            )
        return f"{low} is {self.speedup:.2f}x faster than {high} {where}; {rest}.{doubt}"


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
