"""Threads on a clock that stands still while any of them works: what takes time says so with `sleep`.

One thread runs at a time, and hands over where it would wait, so every run of a test is the same. `VirtualTime` stands
in for the modules `time` and `threading`, as far as the pipeline uses them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType

import pytest


class _Actor:
    """A thread: until when it sleeps, or None for as long as nobody calls it; and what lets it run."""

    def __init__(self):
        self.until: float | None = 0.0
        self.was_called = False
        self.turn = threading.Semaphore(0)


class VirtualTime:
    def __init__(self):
        self.now = 1000.0
        self._current = _Actor()
        self._actors = [self._current]

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self._wait_until(self.now + seconds)

    def _wait_until(self, until: float | None) -> bool:
        """Lets others run; whether it was called before the time came."""
        me = self._current
        me.until, me.was_called = until, False
        self._switch()
        me.turn.acquire()
        return me.was_called

    def _switch(self) -> None:
        ready = [actor for actor in self._actors if actor.until is not None]
        if not ready:
            raise AssertionError("every thread waits for another")
        self._current = min(ready, key=lambda actor: actor.until)
        self.now = max(self.now, self._current.until)
        self._current.turn.release()

    def call(self, actor: _Actor) -> None:
        actor.until, actor.was_called = self.now, True

    # ------------------------------------------------------------------------------- `threading`

    def Condition(self) -> _Condition:
        return _Condition(self)

    def Event(self) -> _Event:
        return _Event(self)

    def Thread(self, target: Callable[..., None], args: tuple = (), **_: object) -> _Thread:
        return _Thread(self, target, args)


def on_virtual_time(monkeypatch: pytest.MonkeyPatch, *others: ModuleType) -> VirtualTime:
    """The clock of live runs from now on, and of other modules that look at one."""
    from veca_edge.runtime import handover, lanes, pipeline

    made = VirtualTime()
    for module in (pipeline, lanes, handover, *others):
        for name in ("time", "threading"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, made)
    return made


class _Condition:
    def __init__(self, clock: VirtualTime):
        self._clock = clock
        self._waiting: list[_Actor] = []

    def __enter__(self) -> None:
        """Nobody else runs anyway."""

    def __exit__(self, *_: object) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        me = self._clock._current
        self._waiting.append(me)
        called = self._clock._wait_until(None if timeout is None else self._clock.now + timeout)
        if not called:
            self._waiting.remove(me)
        return called

    def wait_for(self, there: Callable[[], object], timeout: float | None = None) -> object:
        end = None if timeout is None else self._clock.now + timeout
        while not (found := there()):
            if end is not None and self._clock.now >= end:
                break
            self.wait(None if end is None else end - self._clock.now)
        return found

    def notify_all(self) -> None:
        for actor in self._waiting:
            self._clock.call(actor)
        self._waiting.clear()


class _Event:
    def __init__(self, clock: VirtualTime):
        self._changed, self._is_set = clock.Condition(), False

    def set(self) -> None:
        self._is_set = True
        self._changed.notify_all()

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        return bool(self._changed.wait_for(self.is_set, timeout))


class _Thread:
    def __init__(self, clock: VirtualTime, target: Callable[..., None], args: tuple):
        self._clock, self._ended = clock, clock.Event()
        self._actor = _Actor()
        self._thread = threading.Thread(target=self._run, args=(target, args), daemon=True)

    def _run(self, target: Callable[..., None], args: tuple) -> None:
        self._actor.turn.acquire()
        try:
            target(*args)
        finally:
            self._ended.set()
            self._clock._actors.remove(self._actor)
            self._clock._switch()

    def start(self) -> None:
        self._actor.until = self._clock.now
        self._clock._actors.append(self._actor)
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(timeout)
