"""`veca-edge fit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..actions.fit_request import FitRequest
from ..actions.request import DEFAULT_CORE_COUNT, CheckpointSource
from ..base.options import made_of
from ..base.spec import ImageSize
from ..base.text import counted, quoted
from . import options
from .console import Column, Terminal, command
from .fields import Group, Typed, with_fields

if TYPE_CHECKING:
    from ..actions.fit import FitResult
    from ..fitting.train import HeldOut


@with_fields(Group(FitRequest))
def fit(
    typed: Typed, checkpoint: options.CheckpointPath = None, json: options.Json = False, debug: options.Debug = False
) -> None:
    """Train a linear head on a model's features: classes, masks or depth, for every core count at once."""
    with command(json, debug) as terminal:
        if checkpoint is None:
            terminal.say(options.DEMO)
        request = replace(made_of(FitRequest, typed), checkpoint=CheckpointSource(checkpoint))
        from ..actions.fit import fit as fit_head

        with terminal.progress() as progress:
            result = fit_head(request, progress)
        show(terminal, result, request)


def show(terminal: Terminal, result: FitResult, request: FitRequest) -> None:
    head, first = result.head, result.held_out[0]
    what = "bins" if head.depth_range else "classes"
    title = (
        f"{head.task}, {head.classes} {what}: {counted(result.trained, 'image')} trained it, {first.images} judge it"
    )
    terminal.table(*table_of(result.held_out, head.labels), title)
    terminal.say(f"Head: {result.path}", "bold green")
    for note in result.notes:
        terminal.note(note)
    terminal.note(f"The features stay in {result.cache}, for another run; remove them when you are done.")
    terminal.next(quoted("veca-edge", *export_words(result, request)))
    terminal.result(
        {
            "path": result.path,
            "task": head.task,
            "classes": head.classes,
            "labels": head.labels,
            "depth_range": head.depth_range,
            "trained": result.trained,
            "held_out": [asdict(h) for h in result.held_out],
            "cache": result.cache,
            "notes": result.notes,
        }
    )


def export_words(result: FitResult, request: FitRequest) -> list[str | Path]:
    """An export that takes the head: with what it was fitted on, where export would choose something else."""
    words: list[str | Path] = ["export"]
    # Only the demo model brings images that calibrate.
    if request.checkpoint.path is not None:
        words += [request.checkpoint.path, "--calibration", "IMAGES"]
    words += ["--head", result.path]
    counts = [held_out.core_count for held_out in result.held_out]
    if request.core_counts or DEFAULT_CORE_COUNT not in counts:
        words += ["--cores", ",".join(map(str, request.core_counts or counts[:1]))]
    if request.image_size is not None:
        words += ["--image-size", str(ImageSize(*request.image_size))]
    # An export refuses a head that was fitted on frames made in another way.
    if request.resize != FitRequest.resize:
        words += ["--resize", request.resize]
    if request.crop_ratio != FitRequest.crop_ratio:
        words += ["--crop-ratio", str(request.crop_ratio)]
    return words


def table_of(found: Sequence[HeldOut], labels: Sequence[str] | None) -> tuple[list[Column], list[list]]:
    """The task's own metrics by core count."""
    if found[0].top1 is not None:
        return [Column("cores"), Column("top-1")], [[h.core_count, f"{h.top1 or 0:.1%}"] for h in found]
    if found[0].segmentation is not None:
        rows = []
        for h in found:
            s = h.segmentation
            assert s is not None
            worst = labels[s.worst_class] if labels else f"class {s.worst_class}"
            rows.append([h.core_count, f"{s.miou:.1%}", f"{s.pixels:.1%}", f"{worst} {s.worst_iou:.1%}"])
        return [Column("cores"), Column("mIoU"), Column("pixels"), Column("worst class", False)], rows
    columns = [Column("cores"), Column("AbsRel"), Column("RMSE m"), Column("delta1")]
    depths = [(h.core_count, h.depth) for h in found if h.depth is not None]
    return columns, [[count, f"{d.mean_error:.4f}", f"{d.rmse:.3f}", f"{d.delta1:.1%}"] for count, d in depths]
