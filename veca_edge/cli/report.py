"""`veca-edge report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.options import made_of
from ..base.text import quoted
from ..reports.options import ReportOptions
from . import options
from .console import command
from .fields import Group, Typed, with_fields


@with_fields(Group(ReportOptions))
def report(
    typed: Typed,
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="One bundle, or several to compare.")],
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="The HTML file; the Markdown is written beside it.")
    ] = Path("veca-edge-report.html"),
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Write measurements and fidelity as one HTML file.

    Self-contained: it needs no network. The same numbers are written as Markdown beside it.
    """
    with command(json, debug) as terminal:
        how = made_of(ReportOptions, typed)
        from ..reports.write import write_report

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
