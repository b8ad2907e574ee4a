"""How the library reports progress without printing."""

from __future__ import annotations

from collections.abc import Callable

# Called as progress(stage, done, total); stages are short noun phrases ("calibrating"), counts are whole.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Reports nothing."""
