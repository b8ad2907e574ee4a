"""When to begin with a frame, so that it is ready when the model is: later, the model rests; earlier, the frame ages.

Pure logic on a clock that is given: stages say when they begin and end, and how long they take is learnt from that.
"""

from __future__ import annotations

from collections import deque


class Duration:
    """How long something took lately, in seconds. Single outliers do not count."""

    def __init__(self, window: int = 16):
        self._recent: deque[float] = deque(maxlen=window)

    def add(self, seconds: float) -> None:
        self._recent.append(seconds)

    def quantile(self, share: float) -> float:
        """What `share` of the recent ones did not exceed; 0 before there was any."""
        ordered = sorted(self._recent)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    @property
    def usual(self) -> float:
        return self.quantile(0.5)

    @property
    def is_known(self) -> bool:
        return bool(self._recent)


class Schedule:
    """Decides when the first stage begins with its next frame; later stages begin as soon as they can.

    A frame's age counts from the end of reading. It has to end when preparing is free, and preparing when the model is;
    how much earlier depends on how much the stages vary, and is at most a third of what a frame can wait without
    getting two frame times old: the rest is for frames that take longer than usual.

    Args:
        reads: the first stage is reading (of a file, which loses no frame); else preparing (a camera's newest frame).

    Attributes:
        reading, preparing, running: how long the stages take; a camera reads beside them, at its own pace.
    """

    def __init__(self, reads: bool):
        # So many frames may be between the first stage and the model when another one begins.
        self._limit = 1 if reads else 0
        self.reading, self.preparing, self.running = Duration(), Duration(), Duration()
        self._unprepared = self._unrun = 0
        self._preparing_since: float | None = None
        self._running_since: float | None = None

    def wait_s(self, now: float) -> float | None:
        """Seconds until the next frame should begin, at most 0 for now; None until another stage has gone on."""
        if self._unrun > self._limit or (self._unrun and not self.running.is_known):
            return None
        read, prepare, run = self.reading.usual, self.preparing.usual, self.running.usual
        preparing_free = now if self._preparing_since is None else max(now, self._preparing_since + prepare)
        model_free = now if self._running_since is None else max(now, self._running_since + run)
        if self._unrun:  # one frame is before this one
            preparing_free += prepare * self._unprepared
            model_free = max(model_free, preparing_free) + run
        return max(preparing_free, model_free - prepare) - read - self._margin - now

    @property
    def _margin(self) -> float:
        read, prepare, run = self.reading, self.preparing, self.running
        varies = sum(stage.quantile(0.9) - stage.usual for stage in (read, prepare)) + run.usual - run.quantile(0.1)
        frame_time = max(read.usual, prepare.usual, run.usual)
        bearable = 2 * frame_time - prepare.usual - run.usual
        return min(max(varies, 0.05 * frame_time), max(0.0, bearable) / 3)

    # ----------------------------------------------------------------------------------- events

    def frame_began(self) -> None:
        self._unprepared += 1
        self._unrun += 1

    def preparing_began(self, now: float) -> None:
        self._unprepared -= 1
        self._preparing_since = now

    def preparing_ended(self, now: float) -> None:
        assert self._preparing_since is not None
        self.preparing.add(now - self._preparing_since)
        self._preparing_since = None

    def running_began(self, now: float) -> None:
        self._unrun -= 1
        self._running_since = now

    def running_ended(self, now: float) -> None:
        """Of the model, and of what holds it up afterwards."""
        assert self._running_since is not None
        self.running.add(now - self._running_since)
        self._running_since = None
