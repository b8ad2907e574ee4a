"""A model run on the frames of a source, one step a frame, and what the steps add up to."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ..images.preprocessing import normalised
from .classes import LikelyClass, top_classes
from .governor import Decision
from .model import Model
from .sources import Frame, Source

# A pause is slept in slices of this many seconds, so that who stops a run need not wait for its end.
SLICE_S = 0.1
RECENT = 120


@dataclass(frozen=True)
class Step:
    """One frame that was run.

    Attributes:
        at: seconds since the first frame, when this one was taken up.
        prepare_ms: wall time of resizing and, for `tensor` input, normalisation.
        latency_ms: wall time of the model, which is what the budget is about.
        outputs: float32 arrays without the batch axis; the next step may overwrite them.
        classes: the most likely ones, best first; empty without a head.
        decision: what the governor decided upon this frame (`at` as above), or None.
    """

    frame: Frame
    at: float
    core_count: int
    prepare_ms: float
    latency_ms: float
    outputs: Mapping[str, np.ndarray]
    classes: tuple[LikelyClass, ...]
    decision: Decision | None


@dataclass(frozen=True)
class Live:
    """A model and a source, opened; iterating runs the frames. Use it in a `with`, or close it, to let a camera go.

    Attributes:
        fps: the pace that was asked for, or None.
    """

    model: Model
    source: Source
    steps: Generator[Step, None, None]
    fps: float | None = None

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


@dataclass(frozen=True)
class Pace:
    """How fast frames are taken, and until when; None sets no limit.

    Attributes:
        fps: at most so many frames a second, as a camera would give them; none is left out.
        frames, seconds: end after so many, or so long after the first.
    """

    fps: float | None = None
    frames: int | None = None
    seconds: float | None = None


def steps_of(
    model: Model, frames: Generator[Frame, None, None], pace: Pace, stopped: Callable[[], bool]
) -> Generator[Step, None, None]:
    """Runs frame after frame. The steps end with the frames, with the pace's limits, or when `stopped` says so."""
    start = due = None
    decided: Decision | None = None
    with closing(frames):
        for frame in frames:
            if due is not None:
                wait_until(due, stopped)
            now = time.perf_counter()
            start = now if start is None else start
            if stopped() or (pace.seconds is not None and now - start >= pace.seconds):
                return
            if pace.fps is not None:
                # A little lateness is made up for; after more than a frame's time the clock starts anew.
                due = (now if due is None or now - due > 1 / pace.fps else due) + 1 / pace.fps
            picture = model.prepare(frame.pixels)
            given = picture if model.input == "image" else normalised(picture[None])
            prepare_ms = 1000 * (time.perf_counter() - now)
            output = model(given)
            outputs = {name: getattr(output, name)[0] for name in model.outputs}
            latest = next(reversed(model.decisions), None)
            decision = None if latest is None or latest is decided else replace(latest, at=latest.at - start)
            decided = latest
            yield Step(
                frame,
                now - start,
                output.core_count,
                prepare_ms,
                output.latency_ms,
                outputs,
                top_classes(outputs.get("logits"), model.labels),
                decision,
            )
            if pace.frames is not None and frame.number + 1 >= pace.frames:
                return


def wait_until(due: float, stopped: Callable[[], bool]) -> None:
    while (left := due - time.perf_counter()) > 0 and not stopped():
        time.sleep(min(left, SLICE_S))


# ------------------------------------------------------------------------------------- statistics


@dataclass(frozen=True)
class CoreCountSummary:
    """The frames that ran at one core count."""

    core_count: int
    frames: int
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


class Percentiles(NamedTuple):
    """Of latencies, in milliseconds."""

    p50: float
    p95: float


@dataclass
class Tally:
    """Adds steps up while they come.

    Attributes:
        recent: time and latency of the last frames.
    """

    budget_ms: float | None
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    decisions: list[Decision] = field(default_factory=list)
    _latencies: dict[int, array] = field(default_factory=dict)
    _prepared: array = field(default_factory=lambda: array("d"))
    _within: int = 0
    _end: float = 0.0

    def add(self, step: Step) -> None:
        self.recent.append((step.at, step.latency_ms))
        self._latencies.setdefault(step.core_count, array("d")).append(step.latency_ms)
        self._prepared.append(step.prepare_ms)
        self._within += self.budget_ms is not None and step.latency_ms <= self.budget_ms
        self._end = step.at + (step.prepare_ms + step.latency_ms) / 1000
        if step.decision is not None:
            self.decisions.append(step.decision)

    @property
    def frames(self) -> int:
        return len(self._prepared)

    @property
    def within_budget(self) -> float | None:
        return self._within / self.frames if self.budget_ms is not None and self.frames else None

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
            float(np.median(self._prepared)) if self.frames else None,
            self.budget_ms,
            self.within_budget,
            switches,
            switches * per_second,
            tuple(self.decisions),
            tuple(rows),
        )
