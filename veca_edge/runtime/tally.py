"""What the steps of a live run add up to."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .governor import Decision
from .live import Step

RECENT = 120
# Parts of a frame's way: `frame` is the three before it, from capture to result; `recording` comes after it.
STAGES = ("capturing", "waiting", "preparing", "model", "frame", "recording")


@dataclass(frozen=True)
class CoreCountSummary:
    """The frames that ran at one core count."""

    core_count: int
    frames: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class StageSummary:
    """What one part of the frames' way took; `waiting` is all that lies between the stages.

    Attributes:
        name: `capturing` (of a camera: until a frame comes), `waiting`, `preparing`, `model`; `frame` is the last three
            together, from capture to result; `recording` comes after it.
    """

    name: str
    mean_ms: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        seconds: from the first frame to the end of the last; `fps` is over them.
        prepare_p50_ms: what preparing a frame took on top of the latency; None without frames.
        within_budget: share of the frames whose latency met the budget; None without a budget or frames.
        switches: decisions that changed the core count; the others say that nothing could be done.
        core_counts: ascending.
        stages: in the order of a frame's way; none without frames.
        frame_budget_ms, within_frame_budget: likewise, of the whole frame.
        dropped: frames of a camera that gave way to a newer one.
        reconnected: how often the source came back.
    """

    frames: int
    seconds: float
    fps: float
    prepare_p50_ms: float | None
    budget_ms: float | None
    within_budget: float | None
    switches: int
    switches_per_second: float
    decisions: tuple[Decision, ...]
    core_counts: tuple[CoreCountSummary, ...]
    stages: tuple[StageSummary, ...] = ()
    frame_budget_ms: float | None = None
    within_frame_budget: float | None = None
    dropped: int = 0
    reconnected: int = 0


class Percentiles(NamedTuple):
    """Of latencies, in milliseconds."""

    p50: float
    p95: float


class Durations:
    """Milliseconds of any number of frames, in memory that does not grow with them: counted by three digits.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0
        self._counts: Counter[float] = Counter()

    def add(self, ms: float) -> None:
        self.count += 1
        self._sum += ms
        self._counts[float(f"{ms:.3g}")] += 1

    @property
    def mean(self) -> float:
        return self._sum / self.count

    def quantile(self, share: float) -> float:
        """What `share` of them did not exceed, within half a percent; between two of them as NumPy has it."""
        values = sorted(self._counts)
        last = np.cumsum([self._counts[value] for value in values]) - 1
        rank = share * (self.count - 1)
        below, above = np.searchsorted(last, (math.floor(rank), math.ceil(rank)))
        return values[below] + (rank - math.floor(rank)) * (values[above] - values[below])


@dataclass
class Tally:
    """Adds steps up while they come.

    Attributes:
        recent: time, latency and frame time of the last frames.
        dropped, reconnected: as the last step says.
    """

    budget_ms: float | None
    frame_budget_ms: float | None = None
    recent: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    decisions: list[Decision] = field(default_factory=list)
    dropped: int = 0
    reconnected: int = 0
    _latencies: dict[int, Durations] = field(default_factory=dict)
    _stages: dict[str, Durations] = field(default_factory=lambda: {name: Durations() for name in STAGES})
    _within: int = 0
    _within_frame: int = 0
    _end: float = 0.0

    def add(self, step: Step, record_ms: float = 0.0) -> None:
        """Adds one step; `record_ms` is what drawing and recording it took."""
        self.recent.append((step.at, step.latency_ms, step.frame_ms))
        self._latencies.setdefault(step.core_count, Durations()).add(step.latency_ms)
        taken = (step.capture_ms, step.wait_ms, step.prepare_ms, step.latency_ms, step.frame_ms, record_ms)
        for name, ms in zip(STAGES, taken, strict=True):
            self._stages[name].add(ms)
        self._within_frame += self.frame_budget_ms is not None and step.frame_ms <= self.frame_budget_ms
        self._within += self.budget_ms is not None and step.latency_ms <= self.budget_ms
        self._end = step.at + step.frame_ms / 1000
        self.dropped, self.reconnected = step.dropped, step.reconnected
        if step.decision is not None:
            self.decisions.append(step.decision)

    @property
    def frames(self) -> int:
        return self._stages["frame"].count

    @property
    def within_budget(self) -> float | None:
        return self._within / self.frames if self.budget_ms is not None and self.frames else None

    @property
    def within_frame_budget(self) -> float | None:
        return self._within_frame / self.frames if self.frame_budget_ms is not None and self.frames else None

    @property
    def recent_frame_percentiles_ms(self) -> Percentiles:
        """From capture to result, of the recent frames."""
        p50, p95 = np.percentile([frame_ms for *_, frame_ms in self.recent], (50, 95))
        return Percentiles(float(p50), float(p95))

    @property
    def recent_percentiles_ms(self) -> Percentiles:
        """Of the recent frames."""
        p50, p95 = np.percentile([latency_ms for _, latency_ms, _ in self.recent], (50, 95))
        return Percentiles(float(p50), float(p95))

    @property
    def recent_fps(self) -> float | None:
        """Frames a second, from one frame to the next, over the recent ones; None for a single frame."""
        seconds = self.recent[-1][0] - self.recent[0][0]
        return (len(self.recent) - 1) / seconds if seconds > 0 else None

    def summary(self) -> Summary:
        switches = sum(d.before != d.after for d in self.decisions)
        rows = []
        for count, latencies in sorted(self._latencies.items()):
            rows.append(CoreCountSummary(count, latencies.count, latencies.quantile(0.5), latencies.quantile(0.95)))
        per_second = 1 / self._end if self._end else 0.0
        return Summary(
            self.frames,
            self._end,
            self.frames * per_second,
            self._stages["preparing"].quantile(0.5) if self.frames else None,
            self.budget_ms,
            self.within_budget,
            switches,
            switches * per_second,
            tuple(self.decisions),
            tuple(rows),
            self._stage_summaries() if self.frames else (),
            self.frame_budget_ms,
            self.within_frame_budget,
            self.dropped,
            self.reconnected,
        )

    def _stage_summaries(self) -> tuple[StageSummary, ...]:
        return tuple(
            StageSummary(name, taken.mean, taken.quantile(0.5), taken.quantile(0.95))
            for name, taken in self._stages.items()
        )
