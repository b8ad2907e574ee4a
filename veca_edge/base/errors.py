"""What a user can cause, separated by type from bugs.

An `EdgeError` is shown as one message and a non-zero exit code; anything else that escapes is a
bug of ours and is reported as such.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class EdgeError(Exception):
    """Something the user gave, or something that is missing, stops the work (exit code 2).

    Args:
        message: what went wrong and why, one or two sentences, naming the offending value.
        hint: what to do next: the option or command that mends it.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors of worker processes travel whole, whatever their kinds are made from.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[EdgeError], args: tuple[Any, ...], state: dict[str, Any]) -> EdgeError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class GateError(EdgeError):
    """The work ran to its end, but a gate or a comparison failed (exit code 1)."""

    exit_code = 1


class MissingDependency(EdgeError):
    """A package that this command needs is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the Python package '{package}', which is not installed.",
            f"Install it with: pip install 'veca-edge[{extra}]'",
        )


# How the hint of an unknown name begins.
KNOWN = "Known:"


def unknown_name(kind: str, name: object, known: Iterable[object]) -> EdgeError:
    """The error for a name that is not in a table: it lists the known ones."""
    return EdgeError(f"Unknown {kind} '{name}'.", f"{KNOWN} {', '.join(map(str, known))}.")
