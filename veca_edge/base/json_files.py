"""JSON from anywhere, read strictly: one meaning, bounded in size and depth, every damage one `EdgeError`; and made
into typed values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import KNOWN, EdgeError
from .files import read_limited

LIMIT = 64 << 20
DEPTH = 64
_VERSION = "format_version"

T = TypeVar("T")


def read_json(path: str | Path, hint: str | None = None, limit: int = LIMIT) -> Any:
    """Reads a JSON file in UTF-8.

    Args:
        hint: what to do about a file that can't be read.
        limit: bytes that such a file has at most.

    Raises:
        EdgeError: it is missing, too large, not a regular file, or not JSON as `parse_json` takes it.
    """
    try:
        return parse_json(read_limited(path, limit))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise EdgeError(f"{path} can't be read as JSON: {why}.", hint) from error


def parse_json(text: str | bytes) -> Any:
    """Parses JSON that means one thing: no name twice in an object, no NaN or infinity, integers within 64 bits, text
    that is valid Unicode, at most `DEPTH` levels.

    Raises:
        ValueError: it is anything else; never `RecursionError`.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_float, parse_int=_integer
        )
    except RecursionError:
        raise ValueError(f"it is nested more than {DEPTH} levels deep") from None
    _check(value)
    return value


def typed(value: object, kind: type[T], whose: str, hint: str | None = None) -> T:
    """Makes a dataclass, or another type, of what JSON holds. Names that it does not know are left out.

    Args:
        whose: what holds the value, in words: the start of the error's message.

    Raises:
        EdgeError: something is missing, has another type or is refused by its dataclass; it says where.
    """
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise EdgeError(f"{whose} is not what veca-edge writes: {error}.", hint) from error
    except EdgeError as error:
        # What a hint says of options does not help here, but a name that is wrong is told with those that are known.
        known = f" {error.hint}" if error.hint and error.hint.startswith(KNOWN) else ""
        raise EdgeError(f"{whose} is not what veca-edge writes: {error.message}{known}", hint) from error


def read_versioned(path: str | Path, kind: type[T], version: int, whose: str, hint: str) -> T:
    """Reads a JSON file that says its `format_version`, as a dataclass.

    Args:
        version: the only one that is read; `versioned` puts it into a file.
        whose, hint: as `typed` takes them.

    Raises:
        EdgeError: as `read_json` and `typed`, and where the file is of another version, or of none.
    """
    data = read_json(path, hint)
    found = data.pop(_VERSION, None) if isinstance(data, dict) else None
    if found is None:
        raise EdgeError(f"{whose} is not what veca-edge writes: it has no {_VERSION}.", hint)
    if type(found) is not int or found != version:
        raise EdgeError(f"{whose} has the format version {found!r:.40}, but this veca-edge reads {version}.", hint)
    return typed(data, kind, whose, hint)


def versioned(data: Mapping[str, Any], version: int) -> dict[str, Any]:
    """An object as `read_versioned` reads it."""
    return {_VERSION: version, **data}


def unknown_field(found: object, known: object, where: str = "$") -> str | None:
    """Where one JSON value has a field that another of the same form lacks; None where it has none."""
    parts: list[tuple[object, object, str]] = []
    if isinstance(found, dict) and isinstance(known, dict):
        for name, value in found.items():
            if name not in known:
                return f"{where}.{name}"
            parts.append((value, known[name], f"{where}.{name}"))
    elif isinstance(found, list) and isinstance(known, (list, tuple)):
        parts = [(*pair, f"{where}[{i}]") for i, pair in enumerate(zip(found, known, strict=False))]
    return next((told for part in parts if (told := unknown_field(*part)) is not None), None)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object has one name twice")
    return made


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number in JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is too large a number")
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"{text:.40} is too large a number")
    return int(text)


def _check(value: Any) -> None:
    """Depth and text, without recursion."""
    todo = [(value, 1)]
    while todo:
        current, depth = todo.pop()
        if depth > DEPTH:
            raise ValueError(f"it is nested more than {DEPTH} levels deep")
        if isinstance(current, str):
            current.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
        elif isinstance(current, dict):
            todo += ((item, depth + 1) for pair in current.items() for item in pair)
        elif isinstance(current, list):
            todo += ((item, depth + 1) for item in current)
