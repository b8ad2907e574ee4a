"""`veca-edge run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import EdgeError
from . import options
from .console import Column, command, quoted


def run(
    bundle: options.BundlePath,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    cores: Annotated[int | None, typer.Option(
        min=1, help="Which core count; needed where the bundle holds several.")] = None,
    precision: Annotated[str | None, typer.Option(help="Which precision; needed where there are several.")] = None,
    image_size: Annotated[str, typer.Option(
        help="Which image size; needed where there are several.", show_default="the only one")] = "",
    save: Annotated[Path | None, typer.Option(
        metavar="FILE", help="Write the outputs as .npz: one array per output, images along the first axis.")] = None,
    threads: options.Threads = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Run a model of a bundle on images.

    They are prepared exactly as they were for calibration.
    """
    with command(json, debug) as terminal:
        if save is not None and save.suffix != ".npz":
            raise EdgeError(f"--save {save} is no .npz file.", "Give a name that ends in .npz.")
        size = options.one_image_size(image_size)
        from ..pipeline import run as run_bundle

        artifact, predictions = run_bundle(bundle, images, cores, precision, size, threads)
        terminal.say(f"{artifact.name} ({artifact.format})", "bold")
        if any(p.classes for p in predictions):
            rows = [[p.path, *(f"{name} {share:.1%}" for name, share in p.classes[:3])] for p in predictions]
            columns = [Column("image", False), *(Column(n, False) for n in ("1st", "2nd", "3rd")[:len(rows[0]) - 1])]
        else:
            rows = [[p.path, *(shape(p.outputs[name]) for name in artifact.outputs)] for p in predictions]
            columns = [Column("image", False), *(Column(name, False) for name in artifact.outputs)]
        terminal.table(columns, rows)
        if save is not None:
            save_outputs(save, {name: [p.outputs[name] for p in predictions] for name in artifact.outputs})
            terminal.say(f"Wrote {save}", "green")
        terminal.result({"bundle": bundle, "variant": artifact.name, "images": [
            {"path": p.path, "classes": [{"name": name, "share": share} for name, share in p.classes],
             "cls": p.outputs.get("cls"), "shapes": {name: v.shape for name, v in p.outputs.items()}}
            for p in predictions]})
        terminal.next(quoted("veca-edge", "profile", bundle))


def shape(value) -> str:
    return "[" + ", ".join(map(str, value.shape)) + "]"


def save_outputs(path: Path, outputs: dict[str, list]) -> None:
    import io

    import numpy as np

    from ..files import write_atomically

    content = io.BytesIO()
    np.savez(content, **{name: np.stack(values) for name, values in outputs.items()})
    write_atomically(path, content.getvalue())
