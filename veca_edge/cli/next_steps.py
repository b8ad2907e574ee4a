"""What is left to do with a bundle, as its target says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base.text import quoted
from ..targets.table import target_named

if TYPE_CHECKING:
    from ..bundle.types import Bundle
    from .console import Terminal


def show_next(terminal: Terminal, bundle: Bundle, *before: str, done: str = "") -> None:
    """Says the target's next step with a bundle; behind profiling here, where that was done, comes recommending.

    Args:
        before: commands on the bundle that may be run before it.
        done: the command that has just been run, which is no next step of its own.
    """
    from ..bundle.store import PROFILES

    ahead = target_named(bundle.spec.target).next_steps(bundle)
    if ahead.sentence:
        terminal.say(ahead.sentence)
    following = ahead.command
    if following == ("profile", str(bundle.directory)) and any((bundle.directory / PROFILES).glob("*/*.json")):
        following = ("recommend", str(bundle.directory))
    words = [(name, str(bundle.directory)) for name in before] + [following] * (following[0] != done)
    if words:
        terminal.next(*(quoted("veca-edge", *command) for command in dict.fromkeys(words)))
