"""The lines of tegrastats, from Xavier to Thor, and what they say about power, clocks, heat and memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from ...base.errors import EdgeError
from ...devices.answers import Reader
from ...devices.jetson.modules import MODULES

_RAIL = re.compile(r"\b([A-Za-z][A-Za-z0-9_]*) (-?[0-9]+)(?:mW)?/-?[0-9]+(?:mW)?(?![\w%])")
_TEMPERATURE = re.compile(r"\b([A-Za-z][A-Za-z0-9_]*)@(-?[0-9]+(?:\.[0-9]+)?)C")
_RAM = re.compile(r"\bRAM ([0-9]+)/([0-9]+)MB")
_GPU = re.compile(r"\bGR3D(?:_FREQ)? (?:([0-9]+)%)?(?:@\[?([0-9,]+)\]?)?", re.IGNORECASE)
_EMC = re.compile(r"\bEMC(?:_FREQ)? ([0-9]+)%(?:@([0-9]+))?", re.IGNORECASE)
# Above this a Jetson is about to slow down to save itself (Orin's software throttling begins at 99 C).
HOT_C = 95.0
# Sensors that are switched off read -256; PMIC is a constant on many boards.
NO_TEMPERATURE_C = -100.0
_NO_SENSOR = ("pmic",)
# Ten hours at ten lines a second; a line of a Thor has about a thousand characters.
_MOST_LINES = 360_000
_LINE_CHARACTERS = 8000

_reader = Reader("tegrastats", "Run the same command again.")
_whole, _decimal = _reader.whole, _reader.decimal


@dataclass(frozen=True)
class Sample:
    """One line.

    Attributes:
        at_s: seconds since the board started, where the line was stamped.
        ram_mb: memory in use.
        gpu_load: percent, or None (Thor may not say).
        gpu_mhz: the GPU's clock (the fastest of its clusters), or None.
        emc_mhz: the memory's clock, or None.
        temperatures_c: by sensor, lower case.
        rails_mw: power now by rail; can be negative.
    """

    at_s: float | None
    ram_mb: int | None
    gpu_load: int | None
    gpu_mhz: float | None
    emc_mhz: int | None
    temperatures_c: dict[str, float]
    rails_mw: dict[str, int]


def parse_line(line: str) -> Sample:
    """Reads one line of tegrastats, with or without its clock or ours in front.

    Our stamp is `UPTIME CLOCK `: seconds since the start, and the GPU's frequency in Hz or `-`.

    Raises:
        EdgeError: a number in it cannot be.
    """
    stamp = re.match(r"([0-9]+\.[0-9]+) ([0-9]+|-) ", line)
    ram, gpu, emc = _RAM.search(line), _GPU.search(line), _EMC.search(line)
    clocks = [_whole("a GPU clock", mhz) for mhz in (gpu[2] or "").split(",") if mhz] if gpu else []
    if not clocks and stamp and stamp[2] != "-":
        clocks = [_whole("the GPU's clock", stamp[2], 10**12) / 1e6]
    temperatures = {name.lower(): _decimal("a temperature", value) for name, value in _TEMPERATURE.findall(line)}
    return Sample(
        at_s=_decimal("the time of a line", stamp[1]) if stamp else None,
        ram_mb=_whole("the memory in use", ram[1]) if ram else None,
        gpu_load=_whole("the GPU's load", gpu[1]) if gpu and gpu[1] else None,
        gpu_mhz=max(clocks) if clocks else None,
        emc_mhz=_whole("the memory's clock", emc[2]) if emc and emc[2] else None,
        temperatures_c={
            name: value for name, value in temperatures.items() if value > NO_TEMPERATURE_C and name not in _NO_SENSOR
        },
        rails_mw={name.upper(): round(_decimal("a rail's power", value)) for name, value in _RAIL.findall(line)},
    )


def parse(text: str) -> list[Sample]:
    """Every line that is one of tegrastats'. Raises `EdgeError` for a number that cannot be, and too many lines."""
    found = [line for line in text.splitlines() if len(line) <= _LINE_CHARACTERS and _RAM.search(line)]
    if len(found) > _MOST_LINES:
        raise EdgeError(
            f"tegrastats wrote {len(found)} lines, and {_MOST_LINES} are read at most.", "Measure for a shorter time."
        )
    return [parse_line(line) for line in found]


def between(samples: Sequence[Sample], start_s: float, end_s: float) -> list[Sample]:
    """Those of a stretch of time, in seconds of the board's clock."""
    return [s for s in samples if s.at_s is not None and start_s <= s.at_s <= end_s]


def total_rails(rails: Sequence[str], preferred: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The rails whose sum is the module's power: the module's own if they are there, else those of a known one.

    `VDD_IN` is the whole module on Nano and NX; AGX Orin and Thor have none, and their parts are
    added (Thor's `VIN` is the whole board's). Empty where nothing known is there.
    """
    known = dict.fromkeys((preferred, ("VDD_IN",), *(module.total_rails for module in MODULES.values())))
    return next((names for names in known if names and set(names) <= set(rails)), ())


@dataclass(frozen=True)
class PowerWindow:
    """What a board did over a stretch of time.

    Attributes:
        seconds: its length; count: lines in it.
        rails_mw: mean power by rail; total_from: the rails whose sum is the module's power, total_mw, which is
            None where no known rails are there.
        gpu_mhz: lowest, median and highest clock, or None.
        gpu_load: mean percent, or None.
        temperatures_c: the highest of each sensor; hottest_c: of all.
        ram_mb: memory in use, the median.
    """

    seconds: float
    count: int
    rails_mw: dict[str, float]
    total_from: tuple[str, ...]
    gpu_mhz: tuple[float, float, float] | None
    gpu_load: float | None
    temperatures_c: dict[str, float]
    ram_mb: int | None

    @property
    def total_mw(self) -> float | None:
        return sum(self.rails_mw[rail] for rail in self.total_from) if self.total_from else None

    @property
    def hottest_c(self) -> float | None:
        return max(self.temperatures_c.values(), default=None)


def window(samples: Sequence[Sample], seconds: float, preferred: tuple[str, ...] = ()) -> PowerWindow | None:
    """Sums samples up; None without any. A rail counts where every sample has it."""
    if not samples:
        return None
    rails = [rail for rail in samples[0].rails_mw if all(rail in s.rails_mw for s in samples)]
    clocks = [s.gpu_mhz for s in samples if s.gpu_mhz]
    loads = [s.gpu_load for s in samples if s.gpu_load is not None]
    memory = [s.ram_mb for s in samples if s.ram_mb is not None]
    sensors = dict.fromkeys(name for s in samples for name in s.temperatures_c)
    return PowerWindow(
        seconds=seconds,
        count=len(samples),
        rails_mw={rail: fmean(s.rails_mw[rail] for s in samples) for rail in rails},
        total_from=total_rails(rails, preferred),
        gpu_mhz=(min(clocks), median(clocks), max(clocks)) if clocks else None,
        gpu_load=fmean(loads) if loads else None,
        temperatures_c={
            name: max(s.temperatures_c[name] for s in samples if name in s.temperatures_c) for name in sensors
        },
        ram_mb=round(median(memory)) if memory else None,
    )


def heat_warnings(seen: PowerWindow, limit_mhz: float | None) -> list[str]:
    """Sentences about throttling: a clock that fell, or did not reach its limit, and heat near the limit.

    Args:
        limit_mhz: the highest clock that the power mode allows, where it is known.
    """
    found = []
    if seen.gpu_mhz:
        low, middle, high = seen.gpu_mhz
        if low < 0.9 * high:
            found.append(f"The GPU's clock fell from {high:.0f} to {low:.0f} MHz while it was measured.")
        elif limit_mhz and middle < 0.9 * limit_mhz:
            found.append(
                f"The GPU ran at {middle:.0f} MHz, though its power mode allows {limit_mhz:.0f}: it was "
                "throttled, or never had to speed up."
            )
    if seen.hottest_c is not None and seen.hottest_c >= HOT_C:
        found.append(f"The board was at {seen.hottest_c:.0f} C: it slows down to save itself.")
    return found
