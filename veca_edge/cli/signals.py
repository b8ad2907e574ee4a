"""Ctrl-C, SIGTERM and SIGHUP end a command with its clean-up, and with their exit code at whatever moment they come."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, FunctionType
from typing import TypeVar

AGAIN_S = 0.05
# Windows has no connections that hang up.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

# The number of the signal that came, and did not yet end the command.
_came: list[int] = []
_whole: set[CodeType] = set()
Function = TypeVar("Function", bound=FunctionType)


class EndedBySignal(SystemExit):
    """SIGTERM or SIGHUP came."""

    def __init__(self, number: int):
        self.signal, self.exit_code = signal.Signals(number), 128 + number
        super().__init__(self.exit_code)


@contextmanager
def ended_cleanly_by_signals() -> Iterator[None]:
    """While the block runs, SIGINT raises `KeyboardInterrupt`, other signals `EndedBySignal` (143 and 129), but none
    amid an import: extension modules that are cut short while they load (onnx) abort the process, and nothing is
    cleaned up. Nor amid a function that is marked `whole`.

    A signal that came too late to end the block ends the process behind it. From then on signals have their default
    effect, whose exit code a shell shows as 130 and 143 too: while Python shuts down, nothing that is raised is heard.
    One that is ignored, as SIGINT in the background of a shell and SIGHUP by nohup, stays ignored.
    """
    _came.clear()
    for number in ENDING:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _end)
    try:
        yield
    finally:
        # Without this an alarm outlives the block, and kills the process when Python lets go of its handlers.
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        for number in ENDING:
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_DFL)
        if _came:
            sys.exit(128 + _came[0])


def whole(function: Function) -> Function:
    """Marks a function that no signal cuts short; the command ends when it has returned."""
    _whole.add(function.__code__)
    return function


def _end(number: int, frame: FrameType | None) -> None:
    _came[:] = [number]
    if hasattr(signal, "setitimer") and not is_endable(frame):
        signal.signal(signal.SIGALRM, lambda _, later: _end(number, later))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise EndedBySignal(number)


def is_endable(frame: FrameType | None) -> bool:
    """Whether neither an import is under way nor a function that is `whole`, in the frame or in one that called it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib") or frame.f_code in _whole:
            return False
        frame = frame.f_back
    return True
