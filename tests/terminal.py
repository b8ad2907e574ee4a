"""The command line at a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator


def opened_terminal(columns: int, **environment: str) -> tuple[int, int, dict[str, str]]:
    """Our end of a pseudo-terminal of 24 lines, a program's end, and the environment that the program gets."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    return ours, theirs, {**kept, "TERM": "xterm", **environment}


def at_terminal(*words: object, columns: int = 80, **environment: str) -> tuple[int, str]:
    """Runs a command at a pseudo-terminal and returns its exit code and everything that was shown."""
    ours, theirs, environment = opened_terminal(columns, **environment)
    process = subprocess.Popen(
        [sys.executable, "-m", "veca_edge", *map(str, words)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    shown = b"".join(pieces_of(ours))
    return process.wait(300), shown.decode()


def pieces_of(ours: int) -> Iterator[bytes]:
    """What a program shows, as it comes, until it ends and the terminal is closed."""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        yield piece
    os.close(ours)
