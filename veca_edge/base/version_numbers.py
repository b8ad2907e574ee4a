"""Version numbers, read by `packaging` and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import EdgeError

if TYPE_CHECKING:
    from packaging.version import Version


def parse_version(text: str) -> Version:
    """A version, also as Debian writes it (`10.3.0.30-1+cuda12.5`). Raises `EdgeError` for anything else."""
    from packaging.version import Version  # takes time, and the help needs none

    try:
        return Version(text)
    except ValueError as error:  # `InvalidVersion` is one; a number of thousands of digits is refused by `int`
        raise EdgeError(f"'{text[:60]}' is not a version.", "Give numbers with dots, for example 10.3.") from error


def major_minor(version: str) -> str:
    """`10.3.0.30` -> `10.3`. Raises `EdgeError` for what is not a version."""
    parsed = parse_version(version)
    return f"{parsed.major}.{parsed.minor}"
