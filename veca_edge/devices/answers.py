"""What a board says, read strictly: text that is not what was asked for becomes one `UnreadableAnswer`.

A board is not trusted. Every number, line and table that it sends goes through here, so that no text, however
odd or long, ends in anything but a message that names what was not understood.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version

from ..base.errors import EdgeError

LINE_CHARACTERS = 400
_SECTION_CHARACTERS = 16 << 10
_OBJECT_CHARACTERS = 64 << 10
_SHOWN_CHARACTERS = 60
_VERSION_CHARACTERS = 60

_HINT = (
    "Is it the board that was meant, and does it run the commands that it is sent? "
    "Run the same command again with --debug, and report what it says if it is."
)


class UnreadableAnswer(EdgeError):
    """A board, or a tool on it, said something that is not an answer to what was asked."""


def shown(found: object) -> str:
    """The beginning of what was found, on one line and without control characters."""
    if isinstance(found, bytes):
        found = found[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "replace")
    text = found[: _SHOWN_CHARACTERS + 1] if isinstance(found, str) else repr(found)
    if not text:
        return "nothing"
    cut = text[:_SHOWN_CHARACTERS]
    return (repr(cut) if isinstance(found, str) else cut) + ("..." if len(text) > _SHOWN_CHARACTERS else "")


@dataclass(frozen=True)
class Reader:
    """Reads the answers of one source.

    Attributes:
        source: what answered, as the beginning of a sentence (`ssh://orin`, `trtexec`).
        hint: what to do about an answer that cannot be read.
    """

    source: str
    hint: str = _HINT

    def refused(self, what: str, found: object) -> UnreadableAnswer:
        """The error for an answer; `what` names the part of it that was read (`the number of CPUs`)."""
        return UnreadableAnswer(
            f"{self.source} said something that cannot be read: {what} is {shown(found)}.", self.hint
        )

    def whole(self, what: str, text: str, most: int = 10**15) -> int:
        """A whole number from 0 to `most`, in ASCII digits."""
        if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) > most:
            raise self.refused(what, text)
        return int(text)

    def decimal(self, what: str, text: str) -> float:
        """A number as programs print it (`-12`, `0.0345`, `1.5e-02`), finite."""
        if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?([eE][+-]?[0-9]{1,2})?", text):
            raise self.refused(what, text)
        return float(text)

    def line(self, what: str, text: str) -> str:
        """One line of printable text, or an empty one."""
        text = text.strip()
        if len(text) > LINE_CHARACTERS or not text.isprintable():
            raise self.refused(what, text)
        return text

    def version(self, what: str, text: str) -> Version:
        """A version, also as Debian writes it (`10.3.0.30-1+cuda12.5`)."""
        if len(text) > _VERSION_CHARACTERS:
            raise self.refused(what, text)
        try:
            return Version(text)
        except InvalidVersion as error:
            raise self.refused(what, text) from error

    def digest(self, what: str, text: str) -> str:
        """A sha256 in lower-case hexadecimal digits."""
        if not re.fullmatch(r"[0-9a-f]{64}", text):
            raise self.refused(what, text)
        return text

    def sections(self, text: str, names: Sequence[str]) -> dict[str, str]:
        """Bodies by name, without blanks around them, of text that is cut by lines `@NAME`; each name once, no other.

        What comes before the first of these lines is left out.
        """
        parts = re.split(r"^@([a-z0-9]+)$", text, flags=re.MULTILINE)
        found: dict[str, str] = {}
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name not in names or name in found:
                raise self.refused("a part that was not asked for", f"@{name}")
            if len(body) > _SECTION_CHARACTERS:
                raise self.refused(f"the part '{name}', {len(body)} characters long,", body.strip())
            found[name] = body.strip()
        missing = [name for name in names if name not in found]
        if missing:
            raise self.refused(f"the answer, which lacks {', '.join(missing)},", text.strip())
        return found

    def objects(self, what: str, text: str) -> Iterator[dict[str, Any]]:
        """The objects of a JSON list, one by one: each flat (no list or object in it) and no longer than 64 kB.

        Nothing is built but one object at a time, so memory does not grow with the list or its depth.
        """
        at = _SPACE.match(text).end()  # type: ignore[union-attr]  # matches the empty string
        if text[at : at + 1] != "[":
            raise self.refused(what, text[at:])
        at, first = at + 1, True
        while True:
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
            if text[at : at + 1] == "]" and not text[at + 1 : at + 1 + _OBJECT_CHARACTERS].strip():
                return
            if not first:
                if text[at : at + 1] != ",":
                    raise self.refused(what, text[at : at + _OBJECT_CHARACTERS])
                at = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
            entry = _FLAT_OBJECT.match(text, at, at + _OBJECT_CHARACTERS)
            if entry is None:
                raise self.refused(what, text[at : at + _OBJECT_CHARACTERS])
            try:
                yield json.loads(entry[0], strict=False)
            except ValueError as error:
                raise self.refused(what, entry[0]) from error
            at, first = entry.end(), False

    def number_of(self, entry: dict[str, Any], key: str) -> float:
        """A finite number from a JSON object."""
        value = entry.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refused(f"'{key}'", value)
        try:
            number = float(value)
        except OverflowError as error:
            raise self.refused(f"'{key}'", "a number of many digits") from error
        if not math.isfinite(number):
            raise self.refused(f"'{key}'", value)
        return number


_SPACE = re.compile(r"[ \t\r\n]*")
# One character or one string at a time: no two ways to match the same text, so no backtracking.
_FLAT_OBJECT = re.compile(r'\{(?:[^{}"\[\]]|"(?:[^"\\]|\\.)*")*\}', re.DOTALL)
