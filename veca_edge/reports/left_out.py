"""What a report does not show, and why."""

from __future__ import annotations

from typing import NamedTuple


class LeftOut(NamedTuple):
    """What a report does not show, and why, with how to get it."""

    what: str
    why: str
