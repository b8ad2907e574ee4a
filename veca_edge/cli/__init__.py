"""The command line. Each command parses, makes one library call and shows the result.

Only typer is imported before a command runs: `veca-edge --help` is instant on any machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperGroup

from .process import INTERRUPTED, prepare_streams
from .signals import ended_cleanly_by_signals

# Each command, in a module and a function of its name, with the first line of its help.
COMMANDS = {
    "export": "Export a checkpoint as a verified bundle.",
    "fit": "Train a linear head on a model's features: classes, masks or depth, for every core count at once.",
    "verify": "Check a bundle: schema, digests, golden outputs.",
    "build": "Build on the board what an export leaves to it: TensorRT engines.",
    "profile": "Measure latency and memory of every variant.",
    "evaluate": "Run every variant on a whole data set, and compare releases.",
    "compare": "Compare two releases, or two devices: times, memory and fidelity of every variant.",
    "recommend": "Name the best measured variant for a budget.",
    "report": "Write measurements and fidelity as one HTML file.",
    "run": "Run a model of a bundle on images, or live on a folder, a video or a camera.",
    "app": "Write the project of an app around a bundle: camera in, the task's picture out.",
    "serve": "Show a bundle in a browser: camera, pictures and videos, with nothing leaving the device that runs it.",
    "sensitivity": "Measure what INT8 does to the outputs, by layer.",
    "inspect": "Show what a checkpoint or a bundle holds.",
    "doctor": "Check what this machine can do.",
    "lint": "Check a model file against the rules of a target.",
    "devices": "List the known Jetson modules, JetPacks and SoCs of phones.",
}


# Where a command's context says that its errors are to be JSON.
AS_JSON = f"{__name__}.json"
# What typer raises of a command line that can't be; it exports no name for it.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


@contextmanager
def wrong_usage_told(as_json: bool, path: Callable[[], str]) -> Iterator[None]:
    """What typer finds wrong with a command line, or can't write, said as every other error is.

    Args:
        path: the command as it was typed, where the error does not know it.
    """
    try:
        yield
    except USAGE_ERROR as error:
        if "NoArgs" in type(error).__name__:  # the help itself
            raise
        from ..base.errors import EdgeError
        from .console import command

        wrong: Any = error
        typed = wrong.ctx.command_path if wrong.ctx is not None else path()
        with command(as_json):
            raise EdgeError(f"{wrong.format_message().rstrip('.')}.", f"See what it takes: {typed} --help") from None
    except OSError:  # of the help: what a command itself writes it tells of itself
        from .console import command

        with command(as_json):
            raise


def unusable(words: Sequence[str]) -> tuple[str, str] | None:
    """A message and a hint about words without a value, or about where they were typed; None where all is well.

    An empty path would be the current directory.
    """
    for before, word in pairwise(words):
        if not word or (word.startswith("--") and word.endswith("=")):
            whose = word[:-1] or (before if before.startswith("--") else "An argument")
            return f"{whose} is empty.", "Is a variable of the shell not set? Give a value, or leave it out."
    try:
        os.getcwd()
    except FileNotFoundError:
        return "The current directory is not there any more.", "Go to another one: cd"
    return None


class Commands(TyperGroup):
    """The commands, each imported when it is asked for: the list of them needs none."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        from .fields import GroupedCommand

        one = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
        one.command(cmd_name, cls=GroupedCommand)(getattr(import_module(f".{cmd_name}", __name__), cmd_name))
        return typer.main.get_command(one)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        as_json = "--json" in args
        with wrong_usage_told(as_json, lambda: info_name or ""):
            made = super().make_context(info_name, args, parent, **extra)
        made.meta[AS_JSON] = as_json
        return made

    def invoke(self, ctx: Any) -> Any:
        with wrong_usage_told(ctx.meta[AS_JSON], lambda: f"{ctx.command_path} {ctx.invoked_subcommand}"):
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            from ..base.errors import unknown_name
            from .console import command

            with command(ctx.meta[AS_JSON]):
                raise unknown_name("command", args[0], COMMANDS)
        if wrong := unusable(args):
            from ..base.errors import EdgeError
            from .console import command

            with command(ctx.meta[AS_JSON]):
                raise EdgeError(*wrong)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


commands = typer.Typer(
    name="veca-edge",
    cls=Commands,
    help="Takes a trained VECA vision transformer to a camera: export, INT8, proof and profile, per core count.",
    epilog="Start with: veca-edge export --cores 16 --target cpu",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    if wanted:
        from ..base.versions import own_version

        typer.echo(f"veca-edge {own_version()}")
        raise typer.Exit


@commands.callback()
def veca_edge(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console entry point. Exit codes: 0 done, 1 a gate or comparison failed, 2 bad input or something
    missing, 3 a bug, 130 interrupted (but 0 where Ctrl-C is how a command ends), 143 terminated."""
    prepare_streams()
    try:
        with ended_cleanly_by_signals():
            commands(prog_name="veca-edge")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
