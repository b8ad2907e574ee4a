"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.errors import EdgeError
from ..base.spec import ImageSize

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the warnings of libraries.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; by default the runtime decides.")]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE", help="local, or ssh://[user@]host[:port]; host may be an alias of your SSH configuration."
    ),
]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle that export wrote.")]

Cores = Annotated[str, typer.Option(metavar="LIST", help="Core counts: one (16), a list (8,16,64) or all.")]
Calibration = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Images like the camera's, searched recursively; INT8 needs them.")
]
CalibrationCount = Annotated[int, typer.Option(min=1, help="How many of them calibrate.")]
Evaluation = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Images to measure fidelity on; folders named by class give top-1.",
        show_default="calibration images that did not calibrate",
    ),
]
Seed = Annotated[int, typer.Option(help="Of the sampling of images.")]
DEMO = "No checkpoint was given: this is the bundled demo model, a tiny VECA trained on CIFAR-10."

Heads = Annotated[int | None, typer.Option(min=1, help="Attention heads, for a bare state dict of no released family.")]
RopeZero = Annotated[
    float | None, typer.Option(help="Share of zero rotary frequencies, for a bare state dict of no released family.")
]
Head = Annotated[Path | None, typer.Option(metavar="FILE", help="A linear classifier on cls: weight and bias.")]
Labels = Annotated[Path | None, typer.Option(metavar="FILE", help="Class names: one a line, or a JSON list.")]


def names(text: str, option: str) -> tuple[str, ...]:
    """`a,b` as ("a", "b"); empty text as (). Each name is checked where its table is known."""
    parts = tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if not all(parts):
        raise EdgeError(f"{option} '{text}' has an empty name in it.", "Separate names by single commas.")
    return parts


def core_counts(text: str) -> tuple[int, ...]:
    """`16` or `8,16,64`; `all` as (), which means every count of the checkpoint."""
    if text.strip().lower() == "all":
        return ()
    counts = []
    for part in names(text, "--cores"):
        # The length keeps `int` from being asked for a number of a million digits.
        if not (part.isascii() and part.isdigit() and len(part) < 7):
            raise EdgeError(f"'{part}' is no core count.", "Give one count (16), a list (8,16,64) or all.")
        counts.append(int(part))
    if not counts:
        raise EdgeError("--cores is empty.", "Give one count (16), a list (8,16,64) or all.")
    return tuple(counts)


def one_image_size(text: str) -> ImageSize | None:
    """`256` or `256x384`; empty text as None."""
    sizes = image_sizes(text)
    if len(sizes) > 1:
        raise EdgeError(f"--image-size '{text}' names several sizes.", "Give one size.")
    return sizes[0] if sizes else None


def image_sizes(text: str) -> tuple[ImageSize, ...]:
    """`256`, `256x384`, or a list of them; empty text as ()."""
    return tuple(ImageSize.parse(part) for part in names(text, "--image-size"))
