"""Version numbers, read by `packaging` and by nothing else."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from .errors import EdgeError


def parse_version(text: str) -> Version:
    """A version, also as Debian writes it (`10.3.0.30-1+cuda12.5`). Raises `EdgeError` for anything else."""
    try:
        return Version(text)
    except InvalidVersion as error:
        raise EdgeError(f"'{text[:60]}' is not a version.", "Give numbers with dots, for example 10.3.") from error


def major_minor(version: str) -> str:
    """`10.3.0.30` -> `10.3`. Raises `EdgeError` for what is not a version."""
    parsed = parse_version(version)
    return f"{parsed.major}.{parsed.minor}"
