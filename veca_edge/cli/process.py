"""The process of a command: its exit codes, and its streams."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn, TextIO

INTERRUPTED = 130
CLOSED_PIPE = 141
BUG = 3


def prepare_streams() -> None:
    """Makes stdout and stderr take any text: no locale and no file name may stop a result from being shown."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def leave_quietly() -> NoReturn:
    """Ends the process after the reader of its output went away, as a shell tool does."""
    for stream in (sys.stdout, sys.stderr):
        discard(stream)
    sys.exit(CLOSED_PIPE)


def discard(stream: TextIO) -> None:
    """Sends what is still to be written to nowhere, so that it does not fail again when the process ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
