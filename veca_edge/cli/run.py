"""`veca-edge run`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..base import lists
from ..base.errors import EdgeError
from . import options
from .console import Column, Terminal, command, quoted
from .live import live

if TYPE_CHECKING:
    import numpy as np

    from ..actions.run import Predictions
    from ..runtime.recording import Record


def run(
    bundle: options.BundlePath,
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE", help="Image files; or give --source.", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="Run live: a folder of images, a video file, or a camera (0, /dev/video0)."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Live: choose the core count so that the model takes at most this (33ms)."),
    ] = None,
    min_cosine: Annotated[
        float | None,
        typer.Option(
            min=-1, max=1, help="With --budget: no core count whose cosine with the full model is below this."
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Which core count; for images needed where the bundle holds several.",
            show_default="live: the largest",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Which precision; for images needed where there are several.", show_default="live: the first"
        ),
    ] = None,
    image_size: Annotated[
        str,
        typer.Option(
            help="Which image size; for images needed where there are several.", show_default="live: the first"
        ),
    ] = "",
    fps: Annotated[
        float | None,
        typer.Option(min=0.001, help="Live: at most so many frames a second of a folder or video; none is left out."),
    ] = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="Live: begin a folder or video again at its end.")] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="Live: end after so many frames.")] = None,
    duration: Annotated[str | None, typer.Option(metavar="TIME", help="Live: end after this time (10s, 5m).")] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write outputs as .npz: one array each, images or frames along the first axis."
        ),
    ] = None,
    save_outputs: Annotated[
        str,
        typer.Option(metavar="LIST", help="Which outputs to --save.", show_default="images: all; live: all but dense"),
    ] = "",
    table: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Live: write time, core count, latency and label of every frame."),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Live: write the frames with label, core count and latency: .mp4 or a folder."
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which kind of file: onnx runs a Jetson bundle's ONNX files here, to see what they compute.",
            show_default="what runs on the device",
        ),
    ] = None,
    threads: options.Threads = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Run a model of a bundle on images, or live on a folder, a video or a camera.

    They are prepared exactly as they were for calibration. Ctrl-C ends a live run, and what it recorded is kept.
    """
    with command(json, debug) as terminal:
        from ..runtime.recording import Record

        names = lists.names(save_outputs, "--save-outputs")
        size = lists.one_image_size(image_size)
        if (source is None) == (not images):
            raise EdgeError(
                "There is nothing to run." if source is None else "--source and images exclude each other.",
                "Give image files, or --source with a folder, a video or a camera.",
            )
        if source is None:
            given = {
                "--budget": budget,
                "--min-cosine": min_cosine,
                "--fps": fps,
                "--repeat": repeat or None,
                "--frames": frames,
                "--duration": duration,
                "--csv": table,
                "--overlay": overlay,
            }
            wrong = [name for name, value in given.items() if value is not None]
            if wrong:
                raise EdgeError(f"{wrong[0]} is for a live run.", "Give --source instead of images.")
            from ..actions.run import run as run_bundle

            variant = (cores, precision, size, threads, format)
            on_images(terminal, bundle, lambda: run_bundle(bundle, images or [], *variant), Record(save, names))
            return
        from ..actions.live import LiveRequest
        from ..base.units import parse_milliseconds, parse_seconds

        request = LiveRequest(
            bundle,
            source,
            None if budget is None else parse_milliseconds(budget),
            min_cosine,
            cores,
            precision,
            size,
            threads,
            fps,
            repeat,
            frames,
            None if duration is None else parse_seconds(duration),
            format,
        )
        live(terminal, request, Record(save, names, table, overlay))


def on_images(terminal: Terminal, bundle: Path, run_images: Callable[[], Predictions], record: Record) -> None:
    from ..runtime.recording import check_record, chosen_outputs, outputs_to

    check_record(record)
    found = run_images()
    artifact, predictions = found.artifact, found.images
    terminal.say(f"{artifact.name} ({artifact.format})", "bold")
    if any(p.classes for p in predictions):
        rows = [[p.path, *(f"{name} {share:.1%}" for name, share in p.classes[:3])] for p in predictions]
        columns = [Column("image", False), *(Column(n, False) for n in ("1st", "2nd", "3rd")[: len(rows[0]) - 1])]
    else:
        rows = [[p.path, *(shape(p.outputs[name]) for name in artifact.outputs)] for p in predictions]
        columns = [Column("image", False), *(Column(name, False) for name in artifact.outputs)]
    terminal.table(columns, rows)
    if record.outputs is not None:
        kept = chosen_outputs(record.output_names or artifact.outputs, artifact.outputs)
        with outputs_to(record.outputs, kept) as write:
            for prediction in predictions:
                write(prediction.outputs)
        terminal.say(f"Wrote {record.outputs}", "green")
    terminal.result(
        {
            "bundle": bundle,
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
    terminal.next(quoted("veca-edge", "profile", bundle))


def shape(value: np.ndarray) -> str:
    return "[" + ", ".join(map(str, value.shape)) + "]"
