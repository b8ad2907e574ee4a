"""Waits until a device is cool: what is measured on a hot one says more of the last run than of this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TypeVar

from ..base.errors import EdgeError

T = TypeVar("T")
PATIENCE_S = 900.0
BETWEEN_LOOKS_S = 5.0


@dataclass(frozen=True)
class Cooling:
    """How a device is waited for.

    Attributes:
        name: of the device.
        celsius: at which it is cool enough, or below.
        advice: what helps where it does not cool.
        patience_s: so long at most.
    """

    name: str
    celsius: float
    advice: str
    patience_s: float = PATIENCE_S

    def wait(self, look: Callable[[], T], warmth: Callable[[T], float], on_wait: Callable[[float], None]) -> T:
        """Looks until the device is cool, and returns what was seen then.

        Args:
            look: what the device says now.
            warmth: how hot it is by that, in degrees Celsius.
            on_wait: called with the temperature at every look.

        Raises:
            EdgeError: it is hotter after `patience_s` seconds; or as `look`.
        """
        deadline = monotonic() + self.patience_s
        while True:
            seen = look()
            now = warmth(seen)
            on_wait(now)
            if now <= self.celsius:
                return seen
            if monotonic() >= deadline:
                raise EdgeError(
                    f"{self.name} is at {now:.0f} C, and did not cool to {self.celsius:g} C within "
                    f"{self.patience_s:g} s.",
                    f"{self.advice}, or give a higher --cool-to.",
                )
            sleep(BETWEEN_LOOKS_S)
