"""`veca-edge report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base import lists
from ..base.errors import EdgeError
from . import options
from .console import command, quoted


def report(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="One bundle, or several to compare.")],
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="The HTML file; the Markdown is written beside it.")
    ] = Path("veca-edge-report.html"),
    force: Annotated[bool, typer.Option("--force", help="Replace a report that is there.")] = False,
    title: Annotated[str, typer.Option(metavar="TEXT", help="Of the page.", show_default="the bundles' names")] = "",
    machine: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Measurements of this machine, or all to compare machines on purpose."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the bundles were made from: draws fidelity per patch and attention."),
    ] = None,
    layers: Annotated[
        str, typer.Option(metavar="LIST", help="Whose attention, from 0.", show_default="first, middle, last")
    ] = "",
    pictures: Annotated[bool, typer.Option(help="Draw how faithful every patch of the golden frames is.")] = True,
    operators: Annotated[bool, typer.Option("--operators", help="Time operators and layers on this machine.")] = False,
    threads: options.Threads = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Write measurements and fidelity as one HTML file.

    Self-contained: it needs no network. The same numbers are written as Markdown beside it.
    """
    with command(json, debug) as terminal:
        chosen_layers = tuple(layer_number(part) for part in lists.names(layers, "--layers"))
        from ..reports.write import ReportOptions, write_report

        how = ReportOptions(
            title=title,
            machine=machine,
            checkpoint=checkpoint,
            layers=chosen_layers,
            pictures=pictures,
            operators=operators,
            threads=threads,
            force=force,
        )
        with terminal.progress() as progress:
            files = write_report(bundles, output, how, progress)
        for what, why in files.left_out:
            terminal.note(f"left out: {what}: {why}")
        terminal.say(f"Report: {files.html}", "bold green")
        terminal.say(f"The same as Markdown: {files.markdown}")
        terminal.next(quoted("veca-edge", "recommend", bundles[0], "--p95", "20ms"))
        terminal.result(
            {
                "html": files.html,
                "markdown": files.markdown,
                "left_out": [{"what": what, "why": why} for what, why in files.left_out],
            }
        )


def layer_number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 5:
        return int(text)
    raise EdgeError(f"--layers: '{text}' is no layer.", "Give numbers from 0, for example 0,5,11.")
