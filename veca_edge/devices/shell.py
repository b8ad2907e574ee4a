"""The protocol of a connection: POSIX shell scripts that run on a board, and files below one directory there.

Every file lives under a directory of its own (`~/.cache/veca-edge`), so that the names on the board are ours:
paths given by the user never reach a shell. What comes back is bounded: a script that writes more than it may, or
takes longer, is cut off.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Protocol

from ..base.errors import EdgeError
from .process import Completed

# Where our files live on a board. The variable is expanded there.
BOARD_DIRECTORY = '"${XDG_CACHE_HOME:-$HOME/.cache}/veca-edge"'

# What one answer may be at most, where nothing else is said.
ANSWER_BYTES = 1 << 20
ANSWER_S = 50.0
FILE_BYTES = 8 << 30

_BOARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_NAME_CHARACTERS = 200


class ConnectionLost(EdgeError):
    """The connection broke, or could not be made; what runs detached on the board goes on."""


class Connection(Protocol):
    """A machine that scripts run on.

    Attributes:
        name: for messages ("this machine", "ssh://orin").
        device: what `--device` has to be given to come back here, or "" for this machine.
    """

    name: str
    device: str

    def run(
        self, script: str, *arguments: str, timeout_s: float = ANSWER_S, most_bytes: int = ANSWER_BYTES
    ) -> Completed:
        """Runs a POSIX shell script there with `$1`, `$2`, ... and an empty standard input.

        Raises:
            ConnectionLost: there was no answer within `timeout_s`, or the connection broke.
            EdgeError: the answer is longer than `most_bytes`, or is not one of a shell.
        """
        ...

    def put(self, source: Path, name: str) -> None:
        """Copies a file there, to `name` below the board directory; whole, or not at all."""
        ...

    def get(self, name: str, destination: Path, most_bytes: int = FILE_BYTES) -> None:
        """Copies `name` from below the board directory; whole, or not at all.

        Never more is written than the board announced, which may be `most_bytes` at most.
        """
        ...

    def close(self) -> None:
        """Frees what was held; the connection can be used no more."""
        ...


def too_long(name: str, most_bytes: int, hint: str) -> EdgeError:
    """An answer was cut off."""
    size = f"{most_bytes / 1e6:.0f} MB" if most_bytes >= 1e6 else f"{most_bytes} bytes"
    return EdgeError(f"{name} answered with more than the {size} that the answer may have, and was cut off.", hint)


def whole_script(script: str) -> str:
    """The script in braces: a shell reads it to its end before it starts, and nothing in it can eat the rest."""
    return "{\n" + script + "\n} </dev/null\n"


def is_board_name(name: object) -> bool:
    """Whether a text is a path below the board directory that every shell reads as itself."""
    return (
        isinstance(name, str)
        and len(name) <= _NAME_CHARACTERS
        and _BOARD_NAME.fullmatch(name) is not None
        and ".." not in name
    )


def board_name(name: str) -> str:
    """Checks a path below the board directory: ours, so a wrong one is a bug."""
    if not is_board_name(name):
        raise ValueError(f"{name!r} is not a name for a file on a board")
    return name


def aside(name: str) -> str:
    """A name for a file while it is written; no other client has the same."""
    return f"{name}.{uuid.uuid4().hex[:8]}.part"
