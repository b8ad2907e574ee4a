"""Options and tables of commands that take many devices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..base.errors import EdgeError
from .console import Column, Terminal

if TYPE_CHECKING:
    from ..actions.fleet import MemberOutcome, Watch
    from ..devices.fleet import FleetMember

# Of what is said of a device itself, beside its variants.
SHORTEST_STATE = 12

Fleet = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A TOML file of boards or phones; all of them, at the same time.")
]
Tag = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Only those of --fleet with this tag; repeatable, and all must match."),
]


def members_asked(
    devices: Sequence[str] | None, fleet: Path | None, tags: Sequence[str] | None
) -> tuple[FleetMember, ...] | None:
    """The devices of a command, or None where it is about one at most. Raises `EdgeError` for both kinds."""
    from ..devices.fleet import members_of, read_fleet

    if fleet is not None:
        if devices:
            raise EdgeError("Both --device and --fleet were given.", "Add the device to the fleet's file.")
        return read_fleet(fleet, tuple(tags or ()))
    if tags:
        raise EdgeError("--tag chooses among the devices of a fleet, and none was given.", "Give --fleet FILE.")
    return members_of(devices) if devices and len(devices) > 1 else None


@contextmanager
def watched(terminal: Terminal, members: Sequence[FleetMember]) -> Iterator[tuple[Watch, Callable[[], None]]]:
    """What devices tell of their variants, in a table that changes at a terminal: a line for each device."""
    cells: dict[str, dict[str, str]] = {member.name: {} for member in members}

    def watch(device: str, variant: str, state: str) -> None:
        row = cells[device]
        row.pop(variant, None)  # the latest is the last
        row[variant] = state

    with terminal.live() as view:
        yield watch, lambda: view.show(lambda: lines_of(cells, terminal.err.width))


def lines_of(cells: Mapping[str, Mapping[str, str]], width: int) -> dict[str, str]:
    """A line for each device with the state of each variant in a column; where those are too wide for the terminal,
    with that of the latest variant alone. What is said of a device itself, under the name "", ends its line.

    Args:
        cells: by device and variant, the latest last.
        width: of the terminal, in characters.
    """
    # Devices go on telling from their own threads.
    rows = {device: dict(row) for device, row in cells.items()}
    variants = sorted({name for row in rows.values() for name in row if name}, key=_by_numbers)
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows.values())) for name in variants}
    left = width - max(map(len, rows)) - 2
    own = {device: row.get("", "" if row else "waiting").split("\n")[0] for device, row in rows.items()}
    if variants and sum(widths.values()) + 2 * len(variants) + SHORTEST_STATE <= left:
        told = {b: "  ".join(f"{row.get(v, '-'):<{widths[v]}}" for v in variants) for b, row in rows.items()}
        lines = {"": "  ".join(f"{v:<{widths[v]}}" for v in variants)}
    else:
        told, lines = {b: _latest(row, len(variants)) for b, row in rows.items()}, {}
    return lines | {b: "  ".join(text for text in (told[b], own[b]) if text)[:left] for b in rows}


def _by_numbers(name: str) -> list[str | int]:
    """So that 8 cores come before 16."""
    return [int(part) if part.isdigit() else part for part in re.split("([0-9]+)", name)]


def _latest(row: Mapping[str, str], variants: int) -> str:
    begun = [name for name in row if name]
    return f"{len(begun)} of {variants}, {begun[-1]}: {row[begun[-1]]}" if begun else ""


def show_failures(terminal: Terminal, outcomes: Sequence[MemberOutcome[Any]]) -> list[MemberOutcome[Any]]:
    """Says what happened to the devices that failed, and to those that did only the second time; returns the failed."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in outcomes:
        if outcome.error is not None:
            tried = " (tried twice)" if outcome.attempts > 1 else ""
            terminal.failure(f"{outcome.member.name}{tried}: {outcome.error.message}", outcome.error.hint)
        elif outcome.attempts > 1:
            terminal.note(f"{outcome.member.name} did it the second time; at first: {outcome.first_error}")
    done = len(outcomes) - len(failed)
    terminal.say(f"{done} of {len(outcomes)} devices are done.", "bold red" if failed else "bold green")
    if failed:
        terminal.say("The same command goes on where these stopped.")
    return failed


def show_profiles(terminal: Terminal, outcomes: Sequence[MemberOutcome[Any]]) -> None:
    """Medians, devices and their settings by variants."""
    profiles = {o.member.name: o.result.profile for o in outcomes if o.result is not None}
    measured = [m for profile in profiles.values() for m in profile.measurements]
    variants = {m.artifact: f"{m.core_count} {m.precision}" for m in measured}
    sizes = {name.rpartition("_")[2] for name in variants}
    rows = []
    for outcome in outcomes:
        mark, name, profile = (
            terminal.mark(outcome.error is None),
            outcome.member.name,
            profiles.get(outcome.member.name),
        )
        found = {(m.setting, m.artifact): f"{m.p50_ms:.2f}" for m in profile.measurements} if profile else {}
        machine = (profile.machine.name, profile.machine.machine_id) if profile else ("", "")
        for setting in dict.fromkeys(setting for setting, _ in found) or ("",):
            rows.append([mark, name, *machine, setting, *(found.get((setting, name), "") for name in variants)])
    names = [f"{text} {name.rpartition('_')[2]}" if len(sizes) > 1 else text for name, text in variants.items()]
    columns = [
        Column(""),
        *(Column(name, False) for name in ("device", "model", "machine", "setting")),
        *map(Column, names),
    ]
    terminal.table(columns, rows, "Milliseconds per call, the median; cores and precision")


def outcome_json(outcome: MemberOutcome[Any]) -> dict[str, Any]:
    error = outcome.error
    return {
        "name": outcome.member.name,
        "device": outcome.member.device,
        "tags": outcome.member.tags,
        "attempts": outcome.attempts,
        "first_error": outcome.first_error,
        "error": error and {"message": error.message, "hint": error.hint},
    }
