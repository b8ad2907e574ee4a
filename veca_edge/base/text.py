"""Text from files, made safe to be shown and to be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def printable(text: object) -> str:
    """The text with everything but visible characters, blanks and line ends escaped: file names may hold anything."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text)
    )


def quoted(*words: str | Path) -> str:
    """A command line that a shell reads back as these words."""
    return " ".join(shlex.quote(str(word)) for word in words)


def counted(count: int, noun: str) -> str:
    """`1 image`, `1,234 images`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def by_number(text: str) -> tuple[list[str], list[int]]:
    """What sorts `cores8` before `cores16`: the text between the numbers, then the numbers."""
    parts = re.split("([0-9]+)", text)
    return parts[::2], [int(number) for number in parts[1::2]]


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, without a full stop; the name of its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
