"""Ctrl-C and SIGTERM end a command with its clean-up."""

from __future__ import annotations

import signal
import sys
from types import FrameType

AGAIN_S = 0.05


def end_cleanly_on_signals() -> None:
    """SIGINT raises `KeyboardInterrupt`, SIGTERM `SystemExit` (143), but neither amid an import.

    Extension modules that are cut short while they load (onnx) abort the process, and nothing is cleaned up.
    A SIGINT that is ignored, as in the background of a shell, stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    if hasattr(signal, "setitimer") and is_importing(frame):
        signal.signal(signal.SIGALRM, lambda _, later: _end(number, later))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        sys.exit(128 + number)


def is_importing(frame: FrameType | None) -> bool:
    """Whether an import is under way in the frame or in one that called it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
