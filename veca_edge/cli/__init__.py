"""The command line. Each command parses, makes one library call and shows the result.

Only typer and rich are imported before a command runs: `veca-edge --help` is instant on any machine.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .build import build
from .console import INTERRUPTED, prepare_streams
from .devices import devices
from .doctor import doctor
from .export import export
from .fields import GroupedCommand
from .inspect import inspect
from .lint import lint
from .profile import profile
from .recommend import recommend
from .report import report
from .run import run
from .sensitivity import sensitivity
from .signals import ended_cleanly_by_signals
from .verify import verify

app = typer.Typer(
    name="veca-edge",
    help="Takes a trained VECA vision transformer to a camera: export, INT8, proof and profile, per core count.",
    epilog="Start with: veca-edge export --cores 16 --target cpu",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (export, verify, build, profile, recommend, report, run, sensitivity, inspect, doctor, lint, devices):
    app.command(cls=GroupedCommand)(command)


def show_version(wanted: bool) -> None:
    if wanted:
        from ..base.versions import own_version

        typer.echo(f"veca-edge {own_version()}")
        raise typer.Exit


@app.callback()
def veca_edge(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console entry point. Exit codes: 0 done, 1 a gate or comparison failed, 2 bad input or something
    missing, 3 a bug, 130 interrupted,
    143 terminated."""
    prepare_streams()
    try:
        with ended_cleanly_by_signals():
            app(prog_name="veca-edge")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
