"""Names that moved: the old ones work for one release, with a warning that says the new one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


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
