"""Options of a target as one frozen dataclass, from which the command line and the manifest are made.

A field declared with `option` is offered on the command line; a plain field is for users of the library alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

from .errors import EdgeError
from .lists import as_typed

T = TypeVar("T")
_KEY = "option"
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "text"}


# Of one process: more than any machine has cores for, and a slip of the finger with more starves everybody on it.
MOST_THREADS = 512


@dataclass(frozen=True)
class Option:
    """How the command line offers one field.

    Attributes:
        name: of the field.
        flag: as it is typed, `--ios`.
        kind: what is typed: `bool` for a flag without a value, else `str`, `int` or `float`.
        help: one line.
        metavar: what stands for the value in the help.
        shown: the default in words, where the field's own says nothing.
        lowest, highest: bounds of a number.
        parse: makes the field's value of what was typed; raises `EdgeError`.
        many: whether it may be given several times; `parse` then takes the list.
    """

    name: str
    flag: str
    kind: type
    help: str
    metavar: str | None = None
    shown: str | None = None
    lowest: float | None = None
    highest: float | None = None
    parse: Callable[[Any], Any] | None = None
    many: bool = False

    @property
    def bounds(self) -> str:
        """Those of a number in words; empty where it has none."""
        if self.lowest is None and self.highest is None:
            return ""
        if self.highest is None:
            return f"at least {self.lowest:g}"
        return f"at most {self.highest:g}" if self.lowest is None else f"{self.lowest:g} to {self.highest:g}"

    def number(self, value: str | float, whose: str) -> int | float:
        """A number that was typed, or that a file has.

        Args:
            whose: what has the value, in words: the start of the error's message.

        Raises:
            EdgeError: it is no number of the option's kind, or beyond its bounds.
        """
        try:
            number = self.kind(value)
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise EdgeError(f"{whose} is '{value:.40}', not {KINDS[self.kind]}.", self.help)
        if (
            not (-math.inf if self.lowest is None else self.lowest)
            <= number
            <= (math.inf if self.highest is None else self.highest)
        ):
            raise EdgeError(f"{whose} is {number}, but it has to be {self.bounds}.", self.help)
        return number


def option(
    default: Any,
    help: str,
    *,
    flag: str = "",
    kind: type = str,
    metavar: str | None = None,
    shown: str | None = None,
    lowest: float | None = None,
    highest: float | None = None,
    parse: Callable[[Any], Any] | None = None,
    many: bool = False,
) -> Any:
    """A dataclass field that the command line offers; see `Option`. The flag is the field's name unless it is given."""
    stated = Option("", flag, kind, help, metavar, shown, lowest, highest, parse, many)
    return field(default=default, metadata={_KEY: stated})


def threads_option(shown: str) -> Any:
    """A field of CPU threads; `shown` says what decides where none are asked for."""
    return option(None, "CPU threads.", kind=int, shown=shown, lowest=1, highest=MOST_THREADS)


def options_of(kind: type) -> tuple[Option, ...]:
    """The command line's options of an options dataclass: its own in the order of its fields, then those inherited."""
    found, own = [], vars(kind).get("__annotations__", {})
    for f in sorted(fields(cast(Any, kind)), key=lambda f: f.name not in own):
        if _KEY in f.metadata:
            stated = cast(Option, f.metadata[_KEY])
            flag = stated.flag or f"--{f.name.replace('_', '-')}"
            found.append(replace(stated, name=f.name, flag=flag))
    return tuple(found)


def path_of(value: Any, name: str) -> Path:
    """A path that may have been given as text. Raises `EdgeError` for what is neither, and for empty text."""
    if not isinstance(value, str | PathLike):
        raise EdgeError(f"{name} is {value!r:.40}, not a path.", "Give text, or a pathlib.Path.")
    if value == "":
        raise EdgeError(f"{name} is empty.", "Give a path; '.' is the current directory.")
    return Path(value)


def read_plain(options: object) -> None:
    """Reads text and numbers that Python gave an options object as the command line reads them: paths, sizes, lists and
    lists of one. For `__post_init__`.

    Raises:
        EdgeError: as the command line; or a value is no path.
    """
    defaults = {f.name: f.default for f in fields(cast(Any, options))}
    for one in options_of(type(options)):
        value = getattr(options, one.name)
        if one.many or value is None:
            continue
        if one.kind is Path:
            value = path_of(value, one.name)
        elif one.parse is not None and isinstance(defaults[one.name], tuple):
            value = () if isinstance(value, tuple | list) and not value else one.parse(as_typed(value))
        elif one.parse is not None and isinstance(value, str | int):
            value = one.parse(str(value))
        object.__setattr__(options, one.name, value)


def check_bounds(options: object) -> None:
    """Raises `EdgeError` for a number that the command line would refuse, in an options object that Python made."""
    for one in options_of(type(options)):
        value = getattr(options, one.name)
        if value is not None and one.kind in (int, float) and one.parse is None and not one.many:
            one.number(value, one.name)


def made_of(kind: type[T], typed: Mapping[str, Any], **fixed: Any) -> T:
    """The options that were typed, by flag; those of other dataclasses are ignored, defaults fill the rest.

    Args:
        fixed: further fields, by name.

    Raises:
        EdgeError: a value that `parse` or the dataclass itself refuses.
    """
    values = dict(fixed)
    for o in options_of(kind):
        value = typed.get(o.flag)
        if value is not None:
            values[o.name] = o.parse(value) if o.parse else value
    return kind(**values)


def check_kind(options: object | None, kind: type[T], whose: str) -> T:
    """The options of a request: of the right dataclass, or its defaults where none were given.

    Raises:
        EdgeError: they are of another dataclass.
    """
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise EdgeError(
            f"{whose} takes options of the type {kind.__name__}, not {type(options).__name__}.",
            f"Known fields: {', '.join(f.name for f in fields(cast(Any, kind))) or 'none'}.",
        )
    return options


def to_mapping(options: object) -> dict[str, Any]:
    """An options dataclass as JSON values by field; `from_mapping` reads them."""
    return asdict(cast(Any, options))


def from_mapping(kind: type[T], values: Mapping[str, Any], whose: str) -> T:
    """The options dataclass of JSON values; defaults fill what they do not name.

    Raises:
        EdgeError: they name a field that it does not have, or a value has another type or is refused.
    """
    from .json_files import typed

    known = [f.name for f in fields(cast(Any, kind))]
    if unknown := [name for name in values if name not in known]:
        raise EdgeError(f"{whose} knows no option '{unknown[0]}'.", f"Known: {', '.join(known) or 'none'}.")
    return typed(dict(values), kind, f"What was chosen for {whose[:1].lower()}{whose[1:]}")
