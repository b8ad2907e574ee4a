"""A model run on frames in threads: one captures, one prepares, one runs the model; who takes the results draws and
records. They overlap, and order is kept.

A frame's age is what an app feels, so no stage works far ahead: none begins before what it made last was taken, and the
one that begins with a frame (preparing for a camera, whose newest frame is taken then; reading for a file) begins when
`Schedule` says that its result is going to be wanted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..images.preprocessing import as_input
from .handover import Ended, Handover
from .model import Model, Output
from .schedule import Schedule
from .sources import Frame

# Who stops a run does not wait longer than this many seconds for it to be noticed.
SLICE_S = 0.1
# A camera that does not answer is left behind after this many seconds.
LEAVE_S = 5.0
# Buffers of a stage: one is filled or waits to be taken, one is looked at by who took it.
BUFFERS = 2


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


class CapturedFrame(NamedTuple):
    """A frame, when it was there, and how long reading it took in seconds (of a camera: until it came)."""

    frame: Frame
    at: float
    seconds: float


@dataclass(frozen=True)
class PreparedFrame:
    """A frame on its way. `captured`, `began` and `ended` (of preparing) are on the clock of `time.perf_counter`.

    Attributes:
        reading_s: how long reading it took; of a camera, until it came.
        dropped: frames that gave way to a newer one before this one was taken.
    """

    frame: Frame
    captured: float
    reading_s: float
    began: float
    ended: float
    given: np.ndarray
    dropped: int

    def before_ms(self, now: float) -> dict[str, float]:
        """What it took since it was captured, by stage, when the model begins with it now."""
        preparing = self.ended - self.began
        return {"waiting": 1000 * (now - self.captured - preparing), "preparing": 1000 * preparing}


@dataclass(frozen=True)
class FrameResult:
    """A frame with what the model said of it, and when: `began` and `ended` of the model.

    Attributes:
        outputs: without the batch axis; they live until the next result is taken.
    """

    prepared: PreparedFrame
    began: float
    ended: float
    core_count: int
    latency_ms: float
    outputs: Mapping[str, np.ndarray]


class Reading:
    """Takes the frames of a source, until the pace's seconds are over."""

    def __init__(self, frames: Generator[Frame, None, None], pace: Pace):
        self._frames, self._seconds = frames, pace.seconds
        self._start: float | None = None

    def next(self) -> CapturedFrame | None:
        """The next frame; None at the end."""
        asked = time.perf_counter()
        frame = next(self._frames, None)
        if frame is None:
            return None
        there = time.perf_counter()
        at = frame.captured or there
        self._start = at if self._start is None else self._start
        if self._seconds is not None and at - self._start >= self._seconds:
            return None
        return CapturedFrame(frame, at, there - asked)


def given_to(model: Model, frame: Frame, room: np.ndarray | None) -> np.ndarray:
    """What the model takes of a frame; `room` is what was made for an earlier one that is done with, to fill again."""
    prepared = model.prepare(frame.picture)
    return prepared if model.input == "image" else as_input(prepared[None], model.input, room)


def result_of(
    model: Model, prepared: PreparedFrame, began: float, output: Output, room: dict[str, np.ndarray]
) -> FrameResult:
    """The frame's result, as of now; `room` gets copies of the outputs, which the model overwrites."""
    for name in model.outputs:
        value = getattr(output, name)[0]
        if name not in room:
            room[name] = np.empty_like(value)
        np.copyto(room[name], value)
    return FrameResult(prepared, began, time.perf_counter(), output.core_count, output.latency_ms, dict(room))


def results_of(made: Handover[FrameResult], stopped: Callable[[], bool]) -> Generator[FrameResult, None, None]:
    """Until their giver closes, or `stopped` says so, which is asked before every one.

    Raises:
        Exception: what ended a stage, after every frame that came through before.
    """
    while True:
        try:
            result = made.take(SLICE_S)
        except Ended as ended:
            if ended.__cause__ is not None:
                raise ended.__cause__ from None
            return
        if stopped():
            return
        if result is not None:
            yield result


class Pipeline:
    """Threads that capture, prepare and run; their results are in `made`, see `results_of`; then `close`.

    Args:
        frames: of the source; it is iterated, and closed, by the thread that captures.
        drops: take the newest frame (a camera) instead of every one.
        ending: is set by `close`.
    """

    def __init__(
        self,
        model: Model,
        frames: Generator[Frame, None, None],
        pace: Pace,
        drops: bool,
        ending: threading.Event | None = None,
    ):
        self._model, self._frames, self._pace, self._drops = model, frames, pace, drops
        self._captured: Handover[CapturedFrame] = Handover(keeps_newest=drops)
        self._prepared: Handover[PreparedFrame] = Handover()
        self.made: Handover[FrameResult] = Handover()
        self._ending = ending or threading.Event()
        self._schedule = Schedule(reads=not drops)
        self._went_on = threading.Condition()  # guards the schedule, and says that it changed
        self._threads = [
            threading.Thread(target=self._capture, args=(self._captured,), name="veca-edge capture", daemon=True),
            threading.Thread(target=self._prepare, args=(self._prepared,), name="veca-edge prepare", daemon=True),
            threading.Thread(target=self._run, args=(self.made,), name="veca-edge model", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the stages, whatever they wait for."""
        self._ending.set()
        for handover in (self._captured, self._prepared, self.made):
            handover.abandon()
        with self._went_on:
            self._went_on.notify_all()
        for thread in self._threads:
            thread.join(LEAVE_S)

    # ----------------------------------------------------------------------------------- stages

    def _capture(self, after: Handover[CapturedFrame]) -> None:
        """Reads frame after frame, at the pace that was asked for."""
        reading = Reading(self._frames, self._pace)
        due = None
        taken = 0
        cause: BaseException | None = None
        try:
            while not self._ending.is_set():
                if due is not None and self._ending.wait(max(0.0, due - time.perf_counter())):
                    return
                if not self._drops:
                    self._wait_until_wanted()
                captured = reading.next()
                if captured is None:
                    return
                if not self._drops:
                    with self._went_on:
                        self._schedule.reading.add(captured.seconds)
                if self._pace.fps is not None:
                    now = captured.at
                    # A little lateness is made up for; after more than a frame's time the clock starts anew.
                    due = (now if due is None or now - due > 1 / self._pace.fps else due) + 1 / self._pace.fps
                after.put(captured)
                taken += 1
                if not self._drops and self._pace.frames is not None and taken >= self._pace.frames:
                    return
        except Ended:
            pass
        except BaseException as error:  # handed on to who takes the results
            cause = error
        finally:
            self._frames.close()
            after.close(cause)

    def _prepare(self, after: Handover[PreparedFrame]) -> None:
        made = 0
        rooms: list[np.ndarray | None] = [None] * BUFFERS

        def next_one() -> None:
            nonlocal made
            if self._drops:
                self._wait_until_wanted()
            else:
                after.wait_for_room()
            taken = self._captured.take()
            assert taken is not None
            began = time.perf_counter()
            self._tell(self._schedule.preparing_began, began)
            frame, captured, reading_s = taken
            given = rooms[made % BUFFERS] = given_to(self._model, frame, rooms[made % BUFFERS])
            ended = time.perf_counter()
            self._tell(self._schedule.preparing_ended, ended)
            after.put(PreparedFrame(frame, captured, reading_s, began, ended, given, frame.number - made))
            made += 1

        self._work(next_one, self._captured, after)

    def _run(self, after: Handover[FrameResult]) -> None:
        made = 0
        rooms: list[dict[str, np.ndarray]] = [{} for _ in range(BUFFERS)]

        def next_one() -> None:
            nonlocal made
            prepared = self._prepared.take()
            assert prepared is not None
            began = time.perf_counter()
            self._tell(self._schedule.running_began, began)
            # What was before the first one is everything's beginning, which says nothing of the next.
            output = self._model(prepared.given, prepared.before_ms(began) if made else None)
            after.put(result_of(self._model, prepared, began, output, rooms[made % BUFFERS]))
            made += 1
            if self._pace.frames is not None and made >= self._pace.frames:
                raise Ended
            after.wait_for_room()  # a result that nobody has time for yet would only grow old
            self._tell(self._schedule.running_ended, time.perf_counter())

        self._work(next_one, self._prepared, after)

    def _work(self, next_one: Callable[[], None], before: Handover, after: Handover) -> None:
        """Does one after the other until there is no more; then says so to both sides."""
        cause: BaseException | None = None
        try:
            while True:
                next_one()
        except Ended as ended:
            cause = ended.__cause__
        except BaseException as error:  # handed on to who takes the results
            cause = error
        finally:
            before.abandon()
            after.close(cause)

    def _wait_until_wanted(self) -> None:
        """Until it is time to begin with the next frame. Raises `Ended` when that will not be."""
        with self._went_on:
            while (left := self._schedule.wait_s(time.perf_counter())) is None or left > 0:
                if self._ending.is_set():
                    raise Ended
                self._went_on.wait(left)
            self._schedule.frame_began()

    def _tell(self, happened: Callable[[float], None], now: float) -> None:
        with self._went_on:
            happened(now)
            self._went_on.notify_all()
