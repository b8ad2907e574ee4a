"""Numbers and names as a report writes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..actions.candidate import energy_mj
from ..base.text import printable
from ..profiles.machine import Machine

NOTHING = "\u2013"  # an en dash


def milliseconds(value: float | None) -> str:
    """Three digits, at least one of them behind the point below 100 ms."""
    if value is None:
        return NOTHING
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def megabytes(value: float | None) -> str:
    """10^6 bytes, one decimal."""
    return NOTHING if value is None else f"{value / 1e6:.1f}"


def cosine(value: float | None) -> str:
    """Five decimals."""
    return NOTHING if value is None else f"{value:.5f}"


def percent(value: float | None) -> str:
    """Of a share of 1, one decimal."""
    return NOTHING if value is None else f"{value:.1%}"


def ratio(value: float | None) -> str:
    """`1.90x`."""
    return NOTHING if value is None else f"{value:.2f}x"


def whole(value: float | None) -> str:
    """With thin spaces between thousands."""
    return NOTHING if value is None else f"{value:,.0f}".replace(",", "\u202f")


def giga(value: float | None) -> str:
    """10^9, three decimals."""
    return NOTHING if value is None else f"{value / 1e9:.3f}"


def energy(measurement) -> str:
    """Millijoules a call."""
    value = energy_mj(measurement)
    return NOTHING if value is None else f"{value:.3g}"


def microseconds_shown(value: float | None) -> str:
    """Milliseconds with three decimals."""
    return NOTHING if value is None else f"{value:.3f}"


def three_digits(value: float | None) -> str:
    """Three significant digits."""
    return NOTHING if value is None else f"{value:.3g}"


def watts(milliwatts: float | None) -> str:
    """Watts, two decimals."""
    return NOTHING if milliwatts is None else f"{milliwatts / 1000:.2f}"


def machine_facts(machine: Machine) -> str:
    """CPUs, memory and system, as far as they are known: a phone does not tell the first two."""
    facts = [
        f"{machine.cores} logical CPUs" if machine.cores else "",
        f"{machine.memory_bytes / 1e9:.1f} GB" if machine.memory_bytes else "",
        machine.system,
    ]
    return ", ".join(fact for fact in facts if fact)


def day(value: str) -> str:
    """`2026-01-02 03:04 UTC` of an ISO 8601 time."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*", r"\1 \2 UTC", value)


FILTERS: Mapping[str, Callable[..., str]] = {
    "ms": milliseconds,
    "mb": megabytes,
    "cosine": cosine,
    "percent": percent,
    "ratio": ratio,
    "whole": whole,
    "giga": giga,
    "micro": microseconds_shown,
    "three": three_digits,
    "watts": watts,
    "energy": energy,
    "day": day,
    "facts": machine_facts,
}


def markdown_cell(value: Any) -> Any:
    """What a template puts into Markdown, so that a name can neither end a line or a table's cell, nor become markup,
    nor reach the terminal that shows it."""
    if not isinstance(value, str):
        return value
    shown = printable(" ".join(value.split()))
    # An underscore within a word is one; at its edge it is emphasis.
    escaped = re.sub(r"[\\`*\[\]<>|&~$]|(?<![^\W_])_|_(?![^\W_])", _as_entity, shown)
    # At the beginning of a line these make headings, lists and rules.
    return re.sub(r"^[#+=-](?=[#=-]*(\s|$))|(?<=^\d)[.)](?=\s|$)|(?<=^\d\d)[.)](?=\s|$)", _as_entity, escaped)


def _as_entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def html_text(value: Any) -> Any:
    """What a template puts into HTML, before it is escaped: no control characters. Markup of our own stays as it is."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
