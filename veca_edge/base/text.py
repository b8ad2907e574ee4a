"""Text from files, made safe to be shown."""

from __future__ import annotations


def printable(text: object) -> str:
    """The text with everything but visible characters, blanks and line ends escaped: file names may hold anything."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text)
    )
