"""`veca-edge app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.text import quoted
from . import options
from .console import command
from .export import megabytes


def app(
    bundle: options.BundlePath,
    platform: Annotated[str, typer.Option(metavar="NAME", help="What the app runs on: ios, android, jetson, web.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The folder to make; it must not be there yet.")],
    name: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The app's name, as its user reads it.", show_default="the model's name"),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Write the project of an app around a bundle: camera in, the task's picture out."""
    with command(json, debug) as terminal:
        from ..actions.app import write_app

        with terminal.progress() as progress:
            written = write_app(bundle, platform, output, name, progress)
        terminal.facts(
            f"{written.app.name}: {written.platform.summary}",
            {
                "folder": written.directory,
                "files": written.files,
                "size": f"{megabytes(written.bytes)} MB",
                "core counts": ", ".join(str(a.core_count) for a in written.app.variants),
            },
        )
        terminal.result(
            {
                "platform": written.platform.name,
                "name": written.app.name,
                "directory": written.directory,
                "files": written.files,
                "bytes": written.bytes,
                "variants": [a.name for a in written.app.variants],
            }
        )
        terminal.next(quoted("cd", written.directory), *written.platform.open_with)
