"""`veca-edge run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..actions.run_request import LiveRequest, ModelChoice
from ..base.errors import EdgeError
from ..base.options import made_of, options_of
from ..runtime.record import Record
from . import options
from .console import Column, Terminal, command
from .fields import Group, Typed, with_fields
from .live import live
from .next_steps import show_next

if TYPE_CHECKING:
    import numpy as np

    from ..bundle.types import Bundle


# What a run on images takes too; everything else is for live runs.
ON_IMAGES = {o.flag for o in options_of(ModelChoice)} | {"--save", "--save-outputs", "--overlay", "--show"}


@with_fields(Group(ModelChoice), Group(LiveRequest), Group(Record))
def run(
    bundle: options.BundlePath,
    typed: Typed,
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE", help="Image files; or give --source.", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Run live: a folder, a video, a camera (0, v4l2:///dev/video0, csi://0), rtsp://..., gst:PIPELINE.",
        ),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Run a model of a bundle on images, or live on a folder, a video or a camera.

    They are prepared exactly as they were for calibration. Ctrl-C ends a live run, and what it recorded is kept.
    """
    with command(json, debug) as terminal:
        if (source is None) == (not images):
            raise EdgeError(
                "There is nothing to run." if source is None else "--source and images exclude each other.",
                "Give image files, or --source with a folder, a video or a camera.",
            )
        record = made_of(Record, typed)
        if source is not None:
            live(terminal, made_of(LiveRequest, typed, bundle=bundle, source=source), record)
            return
        wrong = [flag for flag, value in typed.items() if value is not None and flag not in ON_IMAGES]
        if wrong:
            raise EdgeError(f"{wrong[0]} is for a live run.", "Give --source instead of images.")
        from ..bundle.store import open_bundle

        on_images(terminal, open_bundle(bundle), images or [], made_of(ModelChoice, typed), record)


def on_images(terminal: Terminal, bundle: Bundle, images: list[Path], choice: ModelChoice, record: Record) -> None:
    from ..actions.run import check_painting, chosen_artifact
    from ..actions.run import run as run_bundle
    from ..runtime.recording import check_record, chosen_outputs, outputs_to

    check_record(record, of_images=True)
    artifact = chosen_artifact(bundle, choice.core_count, choice.precision, choice.image_size, choice.format)
    kept = chosen_outputs(record.output_names or artifact.outputs, artifact.outputs)
    if record.overlay is not None:
        check_painting(artifact, images, record.show)
    found = run_bundle(bundle, images, **vars(choice))
    predictions = found.images
    terminal.say(f"{artifact.name} ({artifact.format})", "bold")
    if any(p.classes for p in predictions):
        rows = [[p.path, *(f"{name} {share:.1%}" for name, share in p.classes[:3])] for p in predictions]
        columns = [Column("image", False), *(Column(n, False) for n in ("1st", "2nd", "3rd")[: len(rows[0]) - 1])]
    else:
        rows = [[p.path, *(shape(p.outputs[name]) for name in artifact.outputs)] for p in predictions]
        columns = [Column("image", False), *(Column(name, False) for name in artifact.outputs)]
    terminal.table(columns, rows)
    if record.outputs is not None:
        with outputs_to(record.outputs, kept) as write:
            for prediction in predictions:
                write(prediction.outputs)
        terminal.say(f"Wrote {record.outputs}", "green")
    if record.overlay is not None:
        from ..actions.run import paint

        for path in paint(bundle, found, record.overlay, record.show):
            terminal.say(f"Wrote {path}", "green")
    terminal.result(
        {
            "bundle": bundle.directory,
            "variant": artifact.name,
            "images": [
                {
                    "path": p.path,
                    "classes": [{"name": name, "share": share} for name, share in p.classes],
                    "cls": p.outputs.get("cls"),
                    "shapes": {name: v.shape for name, v in p.outputs.items()},
                }
                for p in predictions
            ],
        }
    )
    show_next(terminal, bundle)


def shape(value: np.ndarray) -> str:
    return "[" + ", ".join(map(str, value.shape)) + "]"
