"""What libraries write to the process's standard error by themselves, past Python."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def held_back() -> Iterator[IO[bytes]]:
    """Keeps file descriptor 2 out of the terminal for a moment; yields the file that takes what is written meanwhile.

    It holds for the whole process: other threads are silent too.
    """
    with tempfile.TemporaryFile() as taken:
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(taken.fileno(), 2)
        try:
            yield taken
        finally:
            os.dup2(before, 2)
            os.close(before)


def last_lines(taken: IO[bytes], start: str, most: int = 2) -> str:
    """The last lines that begin in some way, without that, for an error's message; empty where there is none."""
    taken.seek(0)
    lines = [line.strip() for line in taken.read().decode("utf-8", "replace").splitlines()]
    return " ".join([line.removeprefix(start)[:300] for line in lines if line.startswith(start)][-most:])
