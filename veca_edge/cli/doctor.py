"""`veca-edge doctor`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ..targets.table import TARGETS, target_named
from . import options
from .console import command, printable


def doctor(
    target: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only what this target needs; exit code 2 when something is missing."),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check what this machine can do.

    A mark per requirement; made to be pasted into a report.
    """
    with command(json, debug) as terminal:
        if target is not None:
            target_named(target)
        from ..actions.doctor import EVERYWHERE, MACHINE, examine, groups, lacking

        checks = examine()
        shown = [c for c in checks if target is None or c.target in (EVERYWHERE, target, MACHINE)]
        for group, title in groups().items():
            here = [c for c in shown if c.target == group]
            if not here:
                continue
            terminal.say(title, "bold")
            for check in here:
                found = f" {check.name:<22} {printable(check.found)}"
                terminal.say(Text.assemble("  ", terminal.mark(check.ok), found))
                if check.advice:
                    terminal.say(f"      {check.advice}", "yellow")
            terminal.say()
        missing = {name: [c.name for c in lacking(checks, name)] for name in TARGETS}
        for name, names in missing.items():
            if target in (None, name):
                terminal.say(
                    f"Target {name}: " + (f"missing {', '.join(names)}" if names else "ready"),
                    "red" if names else "green",
                )
        ready = [name for name, names in missing.items() if not names]
        if ready:
            terminal.next(f"veca-edge export --cores 16 --target {target if target in ready else ready[0]}")
        terminal.result({"checks": shown, "ready": {name: not names for name, names in missing.items()}})
        if target is not None and missing[target]:
            raise typer.Exit(2)
