"""Files that an ONNX file keeps constants in, found without the package `onnx`, which running a model does not need.

ONNX Runtime opens them itself, through links and whatever they are; so they are looked at first.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..base.errors import EdgeError
from ..base.files import inside, open_regular

_HINT = "Copy the whole bundle again, or export it again."
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_ENTRY = "entry"
# The fields of each message of onnx.proto that lead to a tensor's external_data, by number.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: _ENTRY},
}


def check_external_data(path: Path) -> None:
    """Raises `EdgeError` unless every file that an ONNX file refers to is a regular one, in its directory or below."""
    for location in external_locations(path):
        file = inside(path.parent, location, _HINT)
        try:
            mode = os.stat(file).st_mode
        except (OSError, ValueError):
            raise EdgeError(f"{path} keeps constants in {location!r:.100}, which is not there.", _HINT) from None
        if not stat.S_ISREG(mode):
            raise EdgeError(f"{path} keeps constants in {location!r:.100}, which is not a regular file.", _HINT)


def external_locations(path: Path) -> list[str]:
    """The names of those files, each once, in their order.

    Raises:
        EdgeError: it is not an ONNX file.
    """
    with open_regular(path) as file:
        if not os.fstat(file.fileno()).st_size:
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return list(dict.fromkeys(_locations(content)))
            except (ValueError, IndexError) as error:
                raise EdgeError(f"{path} cannot be read as an ONNX file: {error or 'it is cut off'}.", _HINT) from error


def _locations(content: mmap.mmap) -> Iterator[str]:
    todo = [("model", 0, len(content))]
    while todo:
        message, start, end = todo.pop()
        if message == _ENTRY:
            entry = {number: content[a:b] for number, a, b in _fields(content, start, end)}
            if entry.get(_KEY) == b"location":
                yield entry.get(_VALUE, b"").decode()
            continue
        known = _MESSAGES[message]
        found = [(known[number], a, b) for number, a, b in _fields(content, start, end) if number in known]
        todo += reversed(found)


def _fields(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of every field of a message that is text or a message. Raises `ValueError`."""
    while at < end:
        begin = at
        tag, at = _varint(content, at)
        # Protobuf keeps the lower 32 bits of a tag only: a larger one would be another field there than here.
        if tag >= 1 << 32 or at - begin > 5 or not tag >> 3:
            raise ValueError("it has a field that no message can have")
        kind = tag & 7
        if kind == 2:
            length, at = _varint(content, at)
            if length > end - at:
                raise ValueError("a field is longer than the message that it is in")
            yield tag >> 3, at, at + length
            at += length
        elif kind == 0:
            _, at = _varint(content, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"it has a field of wire type {kind}")
    if at > end:
        raise ValueError("a field is longer than the message that it is in")


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """A number, and where the next one begins. Raises `IndexError` where the file ends."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")
