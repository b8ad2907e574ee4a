"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..base.options import threads_option

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the warnings of libraries.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DEVICE",
        help="local, or ssh://[user@]host[:port], where host may be an alias of your SSH configuration; repeatable.",
        show_default="local",
    ),
]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle that export wrote.")]

DEMO = "No checkpoint was given: this is the bundled demo model, a tiny VECA trained on CIFAR-10."
CheckpointPath = Annotated[
    Path | None,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A trained checkpoint, .pt or .safetensors; without one, the bundled demo model.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class ThreadOptions:
    """CPU threads, of a command that has no other options of its own."""

    threads: int | None = threads_option("the runtime's choice")
