"""A model run on the frames of a source, one step a frame."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from .classes import LikelyClass, top_classes
from .governor import Decision
from .lanes import Lanes
from .model import Model
from .pipeline import Pace, Pipeline, results_of
from .sources import Frame, Source


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
