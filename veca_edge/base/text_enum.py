"""Enumerations whose members are their strings (`enum.StrEnum` comes with Python 3.11)."""

from __future__ import annotations

from enum import Enum


class TextEnum(str, Enum):
    """A member is, prints and hashes as the string that command lines and manifests hold."""

    __str__ = str.__str__
    __format__ = str.__format__
    __hash__ = str.__hash__
