"""A model run on the frames of a source, one step a frame, and what the steps add up to."""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from .classes import LikelyClass, top_classes
from .governor import Decision
from .lanes import Lanes
from .model import Model
from .pipeline import Pace, Pipeline, results_of
from .sources import Frame, Source

RECENT = 120
# Parts of a frame's way: `frame` is the three before it, from capture to result; `recording` comes after it.
STAGES = ("capturing", "waiting", "preparing", "model", "frame", "recording")


@dataclass(frozen=True)
class Step:
    """One frame that was run.

    Attributes:
        at: seconds from the capture of the first frame to the capture of this one.
        prepare_ms: wall time of resizing and, for `tensor` input, normalisation.
        latency_ms: wall time of the model, which is what the budget is about.
        outputs: arrays without the batch axis, views of buffers that are filled again: they hold until the next step is
            asked for. Copy what must last longer.
        classes: the most likely ones, best first; empty without a head.
        decision: what the governor decided upon this frame (`at` as above), or None.
        wait_ms: what it waited between the stages: for one to be free, for the next to take it.
        dropped: frames of a camera that gave way to a newer one, from the start to this frame.
        reconnected: how often the source came back until this frame.
        capture_ms: what reading it took, before `at`; of a camera, how long it was waited for.
    """

    frame: Frame
    at: float
    core_count: int
    prepare_ms: float
    latency_ms: float
    outputs: Mapping[str, np.ndarray]
    classes: tuple[LikelyClass, ...]
    decision: Decision | None
    wait_ms: float = 0.0
    dropped: int = 0
    reconnected: int = 0
    capture_ms: float = 0.0

    @property
    def frame_ms(self) -> float:
        """From capture to result: what the frame budget is about. The stages and `wait_ms` add up to it."""
        return self.wait_ms + self.prepare_ms + self.latency_ms


@dataclass(frozen=True)
class Live:
    """A model and a source, opened; iterating runs the frames. Use it in a `with`, or close it, to let a camera go.

    Attributes:
        fps: the pace that was asked for, or None.
        side_by_side: it takes two frames at a time.
    """

    model: Model
    source: Source
    steps: Generator[Step, None, None]
    fps: float | None = None
    side_by_side: bool = False

    def __iter__(self) -> Iterator[Step]:
        return self.steps

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the source and lets go of the model."""
        self.steps.close()
        self.model.close()


def steps_of(
    model: Model,
    frames: Generator[Frame, None, None],
    pace: Pace,
    stopped: Callable[[], bool],
    drops: bool = False,
    ending: threading.Event | None = None,
    side_by_side: bool = False,
) -> Generator[Step, None, None]:
    """Runs frame after frame. The steps end with the frames, with the pace's limits, or when `stopped` says so.

    The next frames are captured, prepared and run in threads while a step is looked at.

    Args:
        drops: take a camera's newest frame instead of every one.
        ending: is set when the steps end, for who reads the frames.
        side_by_side: take two frames at a time all the way, instead of stage by stage; see `Lanes`, which neither
            drops nor keeps a pace of so many frames a second.

    Raises:
        EdgeError: while iterating, what a stage raised; every frame that came through before is a step first.
    """
    start: float | None = None
    decided: Decision | None = None
    pipeline = Lanes(model, frames, pace, ending) if side_by_side else Pipeline(model, frames, pace, drops, ending)
    with closing(pipeline), closing(results_of(pipeline.made, stopped)) as results:
        for made in results:
            prepared = made.prepared
            start = prepared.captured if start is None else start
            latest = next(reversed(model.decisions), None)
            decision = None if latest is None or latest is decided else replace(latest, at=latest.at - start)
            decided = latest
            prepare_ms = 1000 * (prepared.ended - prepared.began)
            yield Step(
                prepared.frame,
                prepared.captured - start,
                made.core_count,
                prepare_ms,
                made.latency_ms,
                made.outputs,
                top_classes(made.outputs.get("logits"), model.labels),
                decision,
                max(0.0, 1000 * (made.ended - prepared.captured) - prepare_ms - made.latency_ms),
                prepared.dropped,
                prepared.frame.reconnected,
                1000 * prepared.reading_s,
            )


# ------------------------------------------------------------------------------------- statistics


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


@dataclass
class Tally:
    """Adds steps up while they come.

    Attributes:
        recent: time and latency of the last frames.
        dropped, reconnected: as the last step says.
    """

    budget_ms: float | None
    frame_budget_ms: float | None = None
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    decisions: list[Decision] = field(default_factory=list)
    _latencies: dict[int, array] = field(default_factory=dict)
    dropped: int = 0
    reconnected: int = 0
    _stages: dict[str, array] = field(default_factory=lambda: {name: array("d") for name in STAGES})
    _within: int = 0
    _end: float = 0.0

    def add(self, step: Step, record_ms: float = 0.0) -> None:
        """Adds one step; `record_ms` is what drawing and recording it took."""
        self.recent.append((step.at, step.latency_ms))
        self._latencies.setdefault(step.core_count, array("d")).append(step.latency_ms)
        taken = (step.capture_ms, step.wait_ms, step.prepare_ms, step.latency_ms, step.frame_ms, record_ms)
        for name, ms in zip(STAGES, taken, strict=True):
            self._stages[name].append(ms)
        self._within += self.budget_ms is not None and step.latency_ms <= self.budget_ms
        self._end = step.at + step.frame_ms / 1000
        self.dropped, self.reconnected = step.dropped, step.reconnected
        if step.decision is not None:
            self.decisions.append(step.decision)

    @property
    def frames(self) -> int:
        return len(self._stages["frame"])

    @property
    def within_budget(self) -> float | None:
        return self._within / self.frames if self.budget_ms is not None and self.frames else None

    @property
    def within_frame_budget(self) -> float | None:
        if self.frame_budget_ms is None or not self.frames:
            return None
        return float(np.mean(np.asarray(self._stages["frame"]) <= self.frame_budget_ms))

    @property
    def recent_frame_percentiles_ms(self) -> Percentiles:
        """From capture to result, of the recent frames."""
        p50, p95 = np.percentile(self._stages["frame"][-RECENT:], (50, 95))
        return Percentiles(float(p50), float(p95))

    @property
    def recent_percentiles_ms(self) -> Percentiles:
        """Of the recent frames."""
        p50, p95 = np.percentile([ms for _, ms in self.recent], (50, 95))
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
            p50, p95 = np.percentile(latencies, (50, 95))
            rows.append(CoreCountSummary(count, len(latencies), float(p50), float(p95)))
        per_second = 1 / self._end if self._end else 0.0
        return Summary(
            self.frames,
            self._end,
            self.frames * per_second,
            float(np.median(self._stages["preparing"])) if self.frames else None,
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
        made = []
        for name, taken in self._stages.items():
            p50, p95 = np.percentile(taken, (50, 95))
            made.append(StageSummary(name, float(np.mean(taken)), float(p50), float(p95)))
        return tuple(made)
