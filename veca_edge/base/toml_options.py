"""Options in a TOML file: each key is a flag of the command line without its dashes, and means what is typed there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .errors import KNOWN, EdgeError
from .files import read_limited
from .options import KINDS, Option, path_of

LIMIT = 1 << 20


def key_of(option: Option) -> str:
    """`--image-size` as `image-size`."""
    return option.flag.removeprefix("--")


def read_toml(path: str | Path) -> dict[str, Any]:
    """Reads a TOML file of at most 1 MiB.

    Raises:
        EdgeError: it is missing, can't be read, or is not TOML; it says where.
    """
    import tomli

    try:
        return tomli.loads(read_limited(path, LIMIT).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise EdgeError(f"{path} can't be read as TOML: {why}.", "Give another file, or mend this one.") from error


def typed_of(values: Mapping[str, Any], options: Iterable[Option], whose: str) -> dict[str, Any]:
    """What a TOML file says, by flag, as the command line would give it to `base.options.made_of`.

    A list may be an array or text as it is typed: `cores = [8, 16]` or `cores = "8,16"`.

    Args:
        whose: what holds the values, in words: the start of an error's message.

    Raises:
        EdgeError: an unknown key (it names the nearest known one), a value of another type or beyond its bounds.
    """
    by_key = {key_of(o): o for o in options}
    check_keys(values, by_key, whose)
    return {by_key[key].flag: _typed(value, by_key[key], f"{whose}: '{key}'") for key, value in values.items()}


def check_keys(values: Iterable[str], known: Iterable[str], whose: str) -> None:
    """Raises `EdgeError` for a key that isn't known; it names the nearest known one, and all of them."""
    names = sorted(known)
    for key in values:
        if key not in names:
            near = get_close_matches(key.replace("_", "-"), names, 1)
            meant = f"Did you mean '{near[0]}'? " if near else ""
            raise EdgeError(f"{whose} has the unknown key '{key}'.", f"{meant}{KNOWN} {', '.join(names)}.")


def toml_text(values: Mapping[str, Any]) -> str:
    """A TOML document of texts, numbers, truths, and sequences and mappings of them."""
    import tomli_w

    return tomli_w.dumps(values)


def _typed(value: Any, option: Option, where: str) -> Any:
    if option.many:
        items = value if isinstance(value, list) else [value]
        return [_scalar(item, option, str, where) for item in items]
    if option.parse is not None and not isinstance(value, str):
        # As it is typed, from which `parse` makes the field's value.
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
            raise EdgeError(f"{where} is neither text nor a list of texts and numbers.", option.help)
        return ",".join(map(str, items))
    return _scalar(value, option, option.kind, where)


def _scalar(value: Any, option: Option, kind: type, where: str) -> Any:
    held = {bool: bool, int: int, float: int | float, str: str, Path: str}[kind]
    if not isinstance(value, held) or (isinstance(value, bool) and kind is not bool):
        raise EdgeError(f"{where} is not {KINDS[kind]}.", option.help)
    if kind is Path:
        return path_of(value, where)
    if kind in (bool, str):
        return value
    return option.number(value, where)
