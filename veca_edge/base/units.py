"""Budgets as people write them: `20ms`, `0.4GB`, `50mJ`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from .errors import EdgeError, unknown_name

MILLISECONDS: Mapping[str, float] = {"us": 1e-3, "ms": 1.0, "s": 1e3}
SECONDS: Mapping[str, float] = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES: Mapping[str, float] = {
    "B": 1.0,
    "kB": 1e3,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
}
MILLIJOULES: Mapping[str, float] = {"uJ": 1e-3, "mJ": 1.0, "J": 1e3}

_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?"


def parse_milliseconds(text: str) -> float:
    """A latency: `20ms`, `0.02s`, `800us`. Raises `EdgeError` that lists the units."""
    return _parse(text, "a latency", MILLISECONDS, "20ms")


def parse_seconds(text: str) -> float:
    """A duration: `30s`, `5m`, `1h`. Raises `EdgeError` that lists the units."""
    return _parse(text, "a duration", SECONDS, "30s")


def parse_bytes(text: str) -> int:
    """An amount of memory: `400MB` (10^6 bytes), `0.4GB`, `380MiB` (2^20). Raises `EdgeError` that lists the units."""
    return round(_parse(text, "an amount of memory", BYTES, "400MB"))


def parse_millijoules(text: str) -> float:
    """An energy: `50mJ`, `0.05J`. Raises `EdgeError` that lists the units."""
    return _parse(text, "an energy", MILLIJOULES, "50mJ")


def parse_celsius(text: str) -> float:
    """A temperature: `45C` or `45`. Raises `EdgeError` for what no device has."""
    number = text.strip().removesuffix("C").removesuffix("\N{DEGREE SIGN}").strip()
    if not re.fullmatch(_NUMBER, number) or not 0 < float(number) < 150:
        raise EdgeError(f"'{text}' is not a temperature in degrees Celsius of a device.", "Give for example 45C.")
    return float(number)


def parse_share(text: str) -> float:
    """A share: `5%` or `0.05`; from 1 on it needs the sign, so that 5 is not taken for 500%. Raises `EdgeError`."""
    return _parse_share(text, "a share", "%", math.inf)


def parse_points(text: str) -> float:
    """A difference of shares: `0.5pp` (points of a percentage) or `0.005`, below 1 as a share. Raises `EdgeError`."""
    return _parse_share(text, "a difference of shares", "pp", 1.0)


def _parse_share(text: str, what: str, sign: str, highest: float) -> float:
    number, hundredths, rest = text.strip().partition(sign)
    value = math.nan
    if not rest and re.fullmatch(_NUMBER, number.strip()):
        value = float(number) / (100 if hundredths else 1)
    if not 0 <= value <= highest or (value >= 1 and not hundredths):
        raise EdgeError(f"'{text:.40}' is not {what}.", f"Give for example 5{sign} or 0.05.")
    return value


def _parse(text: str, what: str, units: Mapping[str, float], example: str) -> float:
    example = f"Give a number and a unit, for example {example}; known units: {', '.join(units)}."
    read = re.fullmatch(rf"\s*({_NUMBER})\s*([^\s\d.]*)\s*", text)
    if not read:
        raise EdgeError(f"'{text}' is not {what}.", example)
    number, unit = float(read[1]), read[2]
    if not unit:
        raise EdgeError(f"'{text}' is not {what}: it has no unit.", example)
    if unit not in units:
        raise unknown_name(f"unit of {what}", unit, units)
    value = number * units[unit]
    if not 0 < value < math.inf:
        raise EdgeError(f"'{text}' is not {what} that anything could meet.", example)
    return value
