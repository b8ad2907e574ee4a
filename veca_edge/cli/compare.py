"""`veca-edge compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..base.errors import EdgeError
from ..base.units import parse_share
from . import options
from .console import Column, Terminal, command

if TYPE_CHECKING:
    from ..actions.compare import TimeComparison


def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A bundle that was profiled.")],
    after: Annotated[
        Path | None,
        typer.Argument(metavar="AFTER", help="Another; without it, one bundle on two machines.", show_default=False),
    ] = None,
    machine: Annotated[
        list[str] | None,
        typer.Option(metavar="ID|NAME", help="Where it was measured; given twice, the first against the second."),
    ] = None,
    max_slowdown: Annotated[
        str, typer.Option(metavar="SHARE", help="How much slower a variant may get.", show_default="5%")
    ] = "5%",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Compare two releases, or two devices: times, memory and fidelity of every variant.

    By what their samples can tell, as a bootstrap interval over rounds. Exit code 1 where a variant got slower beyond
    doubt, and by more than is allowed.
    """
    with command(json, debug) as terminal:
        if markdown and json:
            raise EdgeError("--markdown and --json exclude each other.", "Give one of them.")
        from ..actions.compare import CompareRequest
        from ..actions.compare import compare as compare_bundles
        from ..reports.comparison import comparison_markdown, remarks

        request = CompareRequest(before, after, tuple(machine or ()), parse_share(max_slowdown))
        comparison = compare_bundles(request)
        if markdown:
            terminal.say(comparison_markdown(comparison).rstrip("\n"))
        else:
            show(terminal, comparison)
        for remark in remarks(comparison):
            terminal.note(remark)
        terminal.result(comparison.to_json())
        if comparison.regressions:
            raise typer.Exit(1)


def show(terminal: Terminal, comparison: TimeComparison) -> None:
    from ..reports.comparison import memory_text

    columns = [
        Column(""),
        Column("variant", False),
        Column("", False),
        *map(Column, ("before ms", "after ms", "change")),
        Column("", False),
        Column("memory"),
    ]
    for here in comparison.machines:
        rows = [
            [
                terminal.mark(False if change.is_regression else None if change.is_open else True),
                variant.name,
                f"p{change.percent:g}",
                *(f"{m.percentile_ms(change.percent):.2f}" for m in (change.before, change.after)),
                change.text if change.speed.is_measurable else "",
                change.verdict if change.speed.is_measurable else change.text,
                memory_text(variant) if change is variant.median else "",
            ]
            for variant in here.variants
            for change in variant.changes
        ]
        terminal.table(columns, rows, here.title)
    if comparison.fidelity:
        terminal.table(
            [Column("variant", False), Column("", False), *map(Column, ("before", "after", "difference"))],
            [
                [f.name, quantity, f"{one:.5f}", f"{other:.5f}", f"{other - one:+.5f}"]
                for f in comparison.fidelity
                for quantity, one, other in f.rows
            ],
            "Fidelity to each one's own FP32 model",
        )
    terminal.say(comparison.sentence, "bold red" if comparison.regressions else "bold green")
