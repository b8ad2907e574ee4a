"""`veca-edge build`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .console import command, quoted
from .export import show_board


def build(
    bundle: options.BundlePath,
    device: options.Device = "local",
    workspace: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MIB",
            help="Memory the builder may take for scratch.",
            show_default="half of what is free, at most 1024",
        ),
    ] = None,
    builder_level: Annotated[
        int | None,
        typer.Option(
            min=0, max=5, help="Builder optimization level; lower needs less memory.", show_default="TensorRT's own"
        ),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Build TensorRT engines on the board.

    Detached: after a lost connection the same command goes on where it was. The engines are fetched into the bundle.
    """
    with command(json, debug) as terminal:
        from ..actions.build import build_on
        from ..converters.tensorrt.engine import EngineOptions

        with terminal.progress() as progress:
            built = build_on(bundle, device, EngineOptions(workspace, builder_level), progress, terminal.log)
        show_board(terminal, built)
        terminal.next(quoted("veca-edge", "profile", built.bundle.directory, "--device", device))
        terminal.result(
            {
                "bundle": built.bundle.directory,
                "board": built.board.to_json(),
                "engines": [engine.to_json() for engine in built.engines],
            }
        )
