"""The boards and phones of a fleet, as a TOML file names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError, unknown_name
from ..base.toml_options import check_keys, read_toml
from .android.adb import SCHEME, serial_of
from .device import parse_device

_KEYS = ("device", "tags", "power-mode")
_GIVE = 'Give each as: [devices.NAME] and device = "ssh://HOST", or "adb:SERIAL".'


@dataclass(frozen=True)
class FleetMember:
    """A board or a phone by the name that people give it.

    Attributes:
        device: as `--device` takes it.
        tags: what it is chosen by.
        power_mode: the power mode that it has to be in, as `nvpmodel -q` calls it; None takes any.
    """

    name: str
    device: str
    tags: tuple[str, ...] = ()
    power_mode: str | None = None


def read_fleet(path: str | Path, tags: Sequence[str] = ()) -> tuple[FleetMember, ...]:
    """Reads the devices of a fleet that have every one of `tags`.

    Raises:
        EdgeError: it can't be read, has an unknown key, a device that is none, one twice, or none with these tags.
    """
    values = read_toml(path)
    check_keys(values, ("devices",), str(path))
    members = values.get("devices")
    if not isinstance(members, dict) or not members:
        raise EdgeError(f"{path} names no devices.", _GIVE)
    every = tuple(_member(name, facts, f"{path}: the device '{name}'") for name, facts in members.items())
    check_distinct(every)
    known = sorted({tag for member in every for tag in member.tags})
    for tag in tags:
        if tag not in known:
            raise unknown_name("tag", tag, known)
    chosen = tuple(member for member in every if set(tags) <= set(member.tags))
    if not chosen:
        raise EdgeError(f"No device of {path} has all of the tags {', '.join(tags)}.", "Give fewer of them.")
    return chosen


def members_of(devices: Iterable[str]) -> tuple[FleetMember, ...]:
    """Devices without names of their own. Raises `EdgeError` for what is no device, or is given twice."""
    found = tuple(FleetMember(device, device) for device in devices)
    check_distinct(found)
    return found


def check_distinct(members: Sequence[FleetMember]) -> None:
    """Raises `EdgeError` where two are one device: they would disturb each other."""
    first: dict[str, str] = {}
    for member in members:
        place = place_of(member.device)
        if place in first:
            raise EdgeError(f"'{member.name}' and '{first[place]}' are one device, {place}.", "Name it once.")
        first[place] = member.name


def place_of(device: str) -> str:
    """What all names of one device have in common. Raises `EdgeError` for what is no device, or no certain phone."""
    if device.partition(":")[0] != SCHEME:
        return str(parse_device(device))
    if serial_of(device) is None:
        raise EdgeError(
            f"'{device}' is whichever phone is connected, and of several devices each has to be a certain one.",
            "Give its serial, as `adb devices` lists it: adb:SERIAL",
        )
    return device


def _member(name: str, facts: Any, whose: str) -> FleetMember:
    if not isinstance(facts, dict):
        raise EdgeError(f"{whose} is no table.", _GIVE)
    check_keys(facts, _KEYS, whose)
    device, tags, mode = facts.get("device"), facts.get("tags", []), facts.get("power-mode")
    if not isinstance(device, str):
        what = "no device" if device is None else "a device that is no text"
        raise EdgeError(f"{whose} has {what}.", 'Give one: device = "ssh://HOST"')
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise EdgeError(f"{whose} has tags that are no list of texts.", 'Give them as: tags = ["orin", "door"]')
    if mode is not None and not isinstance(mode, str):
        raise EdgeError(f"{whose} has a power mode that is no text.", 'Give it as nvpmodel -q says it: "15W"')
    place_of(device)
    return FleetMember(name, device, tuple(tags), mode)
