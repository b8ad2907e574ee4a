"""`veca-edge sensitivity`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..actions.request import DEFAULT_CORE_COUNT, CheckpointSource, ExportRequest, ImageSource
from ..base import lists
from ..base.errors import EdgeError
from ..base.options import made_of, option
from ..base.text import counted, quoted
from . import options
from .console import Column, Terminal, command
from .fields import Group, Typed, with_fields, words_of

if TYPE_CHECKING:
    from ..actions.sensitivity import Sensitivity


TASK_COLUMNS = {"top1": "1-top1", "miou": "1-mIoU", "depth": "depth err."}


@dataclass(frozen=True)
class SensitivityOptions:
    """What of a model's layers is measured and shown."""

    count: int = option(16, "How many images to measure on.", kind=int, shown="16", lowest=1)
    by: str = option(
        "cosine",
        "What a loss is: cosine of the features, or top1, miou, depth of a head.",
        metavar="NAME",
        shown="cosine",
    )
    plot: Path | None = option(None, "Draw it as well: .svg, .png or .pdf.", kind=Path, metavar="FILE")


@with_fields(Group(SensitivityOptions), Group(ImageSource), Group(CheckpointSource))
def sensitivity(
    typed: Typed,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT|BUNDLE",
            help="A checkpoint to calibrate, or a bundle with its recipe; without it, the bundled demo model.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The checkpoint that the bundle was made from.", show_default="the demo model"
        ),
    ] = None,
    cores: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Core counts: one (16), a list (8,16,64) or all.", show_default="16, or the bundle's"
        ),
    ] = "",
    image_size: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="256 or HxW, in pixels.", show_default="256; the demo's own 32; the bundle's"
        ),
    ] = "",
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Measure what INT8 does to the outputs, by layer."""
    with command(json, debug) as terminal:
        asked = made_of(SensitivityOptions, typed)
        if asked.plot is not None:
            from ..reports.sensitivity import check_plot

            check_plot(asked.plot)
        bundle, source = sources_of(path, checkpoint)
        if source is None:
            terminal.say(options.DEMO)
        from ..actions.sensitivity import sensitivity as measure

        size = lists.one_image_size(image_size)
        request = ExportRequest(
            output=Path(),
            checkpoint=replace(made_of(CheckpointSource, typed), path=source),
            images=made_of(ImageSource, typed),
            core_counts=lists.core_counts(cores) if cores else () if bundle else (DEFAULT_CORE_COUNT,),
            image_sizes=(size,) if size else (),
        )
        with terminal.progress() as progress:
            found = measure(request, bundle, asked.count, progress, asked.by)
        show(terminal, found)
        if asked.plot is not None:
            from ..reports.sensitivity import plot_sensitivity

            plot_sensitivity(found.layers, found.images, asked.plot, found.by)
            terminal.say(f"Wrote {asked.plot}", "green")
        if bundle is None:
            words = [] if source is None else [str(source)]
            if source is not None and request.images.calibration is None:
                words += ["--calibration", "IMAGES"]
            words += [*words_of(typed, ImageSource, CheckpointSource), "--cores", ",".join(map(str, found.core_counts))]
            words += ["--image-size", image_size] if image_size else []
            terminal.next(quoted("veca-edge", "export", *words))


def sources_of(path: Path | None, checkpoint: Path | None) -> tuple[Path | None, Path | None]:
    """The bundle and the checkpoint that were given, of which the argument may be either."""
    if path is not None and path.is_dir():
        return path, checkpoint
    if checkpoint is not None:
        raise EdgeError(
            f"--checkpoint goes with a bundle, and {path or 'nothing'} is not one.",
            "Give the checkpoint itself as the argument.",
        )
    return None, path


def show(terminal: Terminal, found: Sensitivity) -> None:
    tasks = [name for name in TASK_COLUMNS if any(layer.loss_by(name) is not None for layer in found.layers)]
    worst = max((layer.loss_by(found.by) or 0.0 for layer in found.layers), default=0.0) or 1.0
    counts = ", ".join(map(str, found.core_counts))
    terminal.table(
        [
            Column("layer", False),
            Column("of MACs"),
            Column("1-cls"),
            Column("1-dense"),
            *(Column(TASK_COLUMNS[name]) for name in tasks),
            Column(f"loss by {found.by}", False),
        ],
        [
            [
                layer.name,
                f"{layer.share:.1%}",
                *(loss([getattr(a, name) for a in layer.agreement.values()]) for name in ("cls", "dense")),
                *(f"{layer.loss_by(name) or 0.0:.1e}" for name in tasks),
                terminal.bar((layer.loss_by(found.by) or 0.0) / worst),
            ]
            for layer in found.layers
        ],
        f"This layer alone in INT8 against the FP32 model: the worst of {counts} cores, "
        f"{counted(found.images, 'image')}",
    )
    terminal.result(as_json(found))


def as_json(found: Sensitivity) -> dict[str, Any]:
    return {
        "core_counts": found.core_counts,
        "images": found.images,
        "by": found.by,
        "layers": [
            {
                "name": layer.name,
                "share": layer.share,
                "loss": layer.loss_by(found.by),
                "agreement": {str(count): a.to_json() for count, a in layer.agreement.items()},
            }
            for layer in found.layers
        ],
    }


def loss(statistics: list) -> str:
    known = [1.0 - s.mean for s in statistics if s is not None]
    return f"{max(known):.1e}" if known else ""
