"""Whole frames side by side: two threads, of which each reads every other frame, prepares it and runs the model.

A model that spreads over several threads lets them wait for each other at every operator, all the more while another
thread reads or prepares on one of their cores. Two frames at a time, on half of the threads each, take less of the
processor and give more results a second; each result takes longer. That suits files, which lose no frame and keep
nobody waiting; the budget of a camera is better kept by `Pipeline`.

Nothing waits on the way, so a result is as old as preparing and running take: less than two frame times, since a frame
time is half of what those and reading take together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress

import numpy as np

from .handover import Ended, Handover
from .model import Model
from .pipeline import LEAVE_S, CapturedFrame, FrameResult, Pace, PreparedFrame, Reading, given_to, result_of
from .sources import Frame

# With more of them a result would be older than two frame times.
LANES = 2


class Lanes:
    """Threads that bring frames all the way; their results are in `made`, see `results_of`; then `close`.

    Args:
        model: one whose calls from two threads run at the same time.
        frames: of the source; it is iterated by one thread at a time, and closed by the last.
        pace: without `fps`.
        ending: is set by `close`.
    """

    def __init__(
        self, model: Model, frames: Generator[Frame, None, None], pace: Pace, ending: threading.Event | None = None
    ):
        self._model, self._frames, self._pace = model, frames, pace
        self.made: Handover[FrameResult] = Handover()
        self._reading = Reading(frames, pace)
        self._ending = ending or threading.Event()
        self._went_on = threading.Condition()  # guards what follows, and says that it changed
        self._read = self._given = 0
        self._is_over = False
        self._at_work = LANES
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"veca-edge lane {lane}", daemon=True)
            for lane in range(LANES)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the threads, whatever they wait for."""
        self._ending.set()
        self.made.abandon()
        self._end()
        for thread in self._threads:
            thread.join(LEAVE_S)

    def _work(self, lane: int) -> None:
        """Brings one frame after the other; says what ended that when all results before it have been taken."""
        number, given, room = lane, None, {}
        cause: BaseException | None = None
        try:
            while True:
                given = self._bring(number, given, room)
                number += LANES
        except Ended:
            pass
        except BaseException as error:  # handed on to who takes the results
            cause = error
        with suppress(Ended):  # the other thread ended with an earlier frame
            self._wait_until(lambda: self._given == number)
            self.made.close(cause)
            self._end()
        with self._went_on:
            self._at_work -= 1
            is_last = not self._at_work
        if is_last:
            self._frames.close()

    def _bring(self, number: int, given: np.ndarray | None, room: dict[str, np.ndarray]) -> np.ndarray:
        """One frame, when it is its turn. Fills what the last one of this thread was given and its outputs again.

        Nothing here holds the frame once it has been handed on, so that a decoder can fill its memory again.

        Returns:
            What the model was given.

        Raises:
            Ended: there is no such frame, or nobody wants it.
        """
        self._wait_until(lambda: self._read == number)
        frame, captured, reading_s = self._captured(number)
        with self._went_on:
            self._read += 1
            self._went_on.notify_all()
        began = time.perf_counter()
        given = given_to(self._model, frame, given)
        ended = time.perf_counter()
        prepared = PreparedFrame(frame, captured, reading_s, began, ended, given, frame.number - number)
        output = self._model(given, prepared.before_ms(ended))
        # When the result before it was taken, this thread's last one was done with: its outputs can be filled again.
        self._wait_until(lambda: self._given == number)
        self.made.put(result_of(self._model, prepared, ended, output, room))
        self.made.wait_for_room()  # a result that nobody has time for yet would only grow old
        with self._went_on:
            self._given += 1
            self._went_on.notify_all()
        return given

    def _captured(self, number: int) -> CapturedFrame:
        """The next frame. Raises `Ended` when there is none, or the pace's limits are reached."""
        if self._ending.is_set() or (self._pace.frames is not None and number >= self._pace.frames):
            raise Ended
        captured = self._reading.next()
        if captured is None:
            raise Ended
        return captured

    def _wait_until(self, is_turn: Callable[[], bool]) -> None:
        """Raises `Ended` when that will not be."""
        with self._went_on:
            self._went_on.wait_for(lambda: self._is_over or is_turn())
            if self._is_over:
                raise Ended

    def _end(self) -> None:
        with self._went_on:
            self._is_over = True
            self._went_on.notify_all()
