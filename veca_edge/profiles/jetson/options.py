"""How to measure engines on their board."""

from __future__ import annotations

from dataclasses import dataclass

from ...base.errors import EdgeError
from ...base.options import option
from ...base.units import parse_celsius
from ..cooling import PATIENCE_S


@dataclass(frozen=True)
class BoardOptions:
    """How to measure on a board.

    Attributes:
        seconds: of timed queries; warmup_s: of queries before them, which also bring the clocks up.
        idle_s: of rest before, for the power above idle; 0 measures none.
        layers: also the time of every layer, in a run of its own.
        lock_clocks: `jetson_clocks` while it measures; needs root without a password, and is undone.
        again: also measure what has been measured before.
        cool_to_c: wait before each variant until the hottest sensor is at this or below; None waits for nothing.
        cool_patience_s: so long at most.
        power_mode: the one that the board has to be in; None takes any.
    """

    seconds: float = option(10.0, "Seconds of each round, after warm-up.", kind=float, shown="10", lowest=0.01)
    warmup_s: float = 2.0
    idle_s: float = 5.0
    layers: bool = option(False, "Also the time of every layer.", kind=bool)
    lock_clocks: bool = option(False, "Lock the clocks meanwhile, and put them back; needs root there.", kind=bool)
    again: bool = False
    cool_to_c: float | None = option(
        None,
        "Wait before measuring until the device is as cool as this (45C).",
        flag="--cool-to",
        metavar="TEMP",
        parse=parse_celsius,
    )
    cool_patience_s: float = PATIENCE_S
    power_mode: str | None = None

    def __post_init__(self) -> None:
        if self.seconds < 1:
            raise EdgeError(f"{self.seconds:g} s are too short a run.", "Give 1 second or more.")
