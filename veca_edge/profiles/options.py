"""How to measure on this machine: what only one kind of target's measurements understand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..base.errors import EdgeError, unknown_name
from ..base.options import option, threads_option
from ..base.units import parse_seconds

COMPUTE_UNITS = ("cpu", "gpu", "ane", "all")


@dataclass(frozen=True)
class ProfileOptions:
    """How to measure on this machine's CPU.

    Attributes:
        threads: CPU threads; None takes one per physical core that this process may use.
        rounds: processes per variant, interleaved with those of the others.
        seconds, samples: of each round, both are reached unless `most_seconds` are over first.
        warmup_seconds: calls before those that count.
        sustained_seconds: a long run of each variant after the rounds, to see throttling; 0 is none.
        again: also measure what has been measured before.
    """

    threads: int | None = threads_option("one per physical core")
    rounds: int = option(3, "Processes per variant, interleaved.", kind=int, shown="3", lowest=1)
    seconds: float = option(1.0, "Seconds of each round, after warm-up.", kind=float, shown="1", lowest=0.01)
    samples: int = 20
    most_seconds: float = 20.0
    warmup_seconds: float = 0.3
    sustained_seconds: float = option(
        0.0,
        "Also run each variant this long (5m), to see whether the machine slows down.",
        flag="--sustained",
        metavar="TIME",
        parse=parse_seconds,
    )
    again: bool = False

    def __post_init__(self) -> None:
        for name in ("threads", "rounds", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EdgeError(f"{name} is {value}.", f"Give 1 or more {name}.")
        if self.sustained_seconds and self.sustained_seconds < 4:
            raise EdgeError(
                f"A sustained run of {self.sustained_seconds:g} s shows no throttling.",
                "Give some minutes, for example --sustained 5m.",
            )


def parse_units(text: str) -> tuple[str, ...]:
    """`cpu,ane` as ("cpu", "ane"). Raises `EdgeError` for an unknown one."""
    units = tuple(part.strip() for part in text.split(","))
    check_units(units)
    return units


def check_units(units: Sequence[str]) -> None:
    """Raises `EdgeError` for a compute unit that there isn't."""
    for unit in units:
        if unit not in COMPUTE_UNITS:
            raise unknown_name("compute unit", unit, COMPUTE_UNITS)


@dataclass(frozen=True)
class CoremlProfileOptions:
    """How to measure Core ML packages, on this Mac or on a connected iPhone or iPad.

    Attributes:
        units: what Core ML may use besides the CPU: `cpu`, `gpu`, `ane`, `all`.
        rounds: processes per variant and unit, interleaved; the first one's load is the cold one. None is 3.
        seconds: of each round, None is 1; at least `samples` are taken.
        warmup_seconds: calls before those that count.
        development_team: the ID of the Apple developer team that signs coremltools' runner app on a connected
            device; empty where Xcode's own choice will do.
        iterations: predictions per variant and unit on a connected device; loads: how often each is loaded.
        again: also measure what has been measured before.
    """

    units: tuple[str, ...] = option(("all",), "cpu, gpu, ane, all.", metavar="LIST", shown="all", parse=parse_units)
    rounds: int | None = option(None, "Processes per variant, interleaved.", kind=int, shown="3", lowest=1)
    seconds: float | None = option(None, "Seconds of each round, after warm-up.", kind=float, shown="1", lowest=0.01)
    samples: int = 50
    warmup_seconds: float = 0.5
    development_team: str = option(
        "", "The developer team that signs the runner app on the device.", flag="--team", metavar="ID"
    )
    iterations: int = 100
    loads: int = 3
    again: bool = False

    def __post_init__(self) -> None:
        check_units(self.units)
        if self.rounds is not None and self.rounds < 2:
            raise EdgeError(f"{self.rounds} rounds can't tell a cold load from a cached one.", "Give 2 or more.")
