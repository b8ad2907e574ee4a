"""Names that moved: the old ones work for one release, with a warning that says the new one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def named(path: str) -> Any:
    """What `module:name` names; imports the module."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def moved(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` for names that stood in it once.

    Args:
        names: each old name with `module:name` of the new one.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        new = names[name].replace(":", ".")
        warnings.warn(f"{module}.{name} has moved: use {new}.", DeprecationWarning, stacklevel=2)
        return named(names[name])

    return get


def with_moved_fields(moves: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """A dataclass that still takes fields which have moved into another of its fields.

    Args:
        moves: each old field with `field.name` of the new place; the values of one field come to it as a mapping.
    """

    def decorated(kind: type[T]) -> type[T]:
        made = kind.__init__

        @wraps(made)
        def init(self: T, *positional: Any, **fields: Any) -> None:
            for old in [name for name in fields if name in moves]:
                group, _, name = moves[old].partition(".")
                warnings.warn(f"{kind.__name__}'s {old} is now {moves[old]}.", DeprecationWarning, stacklevel=2)
                held = fields.get(group)
                fields[group] = {
                    **(held if isinstance(held, Mapping) else {"path": held} if held else {}),
                    name: fields.pop(old),
                }
            made(self, *positional, **fields)

        kind.__init__ = init  # type: ignore[method-assign]
        return kind

    return decorated
