"""What a user asks `fit` for. The command line is made from these fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..base import lists
from ..base.options import option, read_plain
from ..base.spec import MAP_STRIDE, ImageSize
from ..base.tasks import Task
from ..images.options import ResizeOptions
from .request import CheckpointSource


@dataclass(frozen=True)
class FitRequest(ResizeOptions):
    """A linear head to train on the features of a frozen model, of images prepared as an export is to prepare frames.

    Attributes:
        task: `classify`, `segment` or `depth`.
        data: see `images.labelled` for how it is laid out.
        output: the file to write, `.safetensors`.
        checkpoint: the model; None is the bundled demo model.
        core_counts: the head serves all of these; () is every count of the checkpoint.
        image_size: height and width in pixels; None is 256 x 256 (the demo's own 32).
        map_stride: pixels of the image to one of the masks and depths that it learns from, along each side.
        evaluation: further data of the same layout, which judges, and does not train where it is in `data` too; None
            holds some of `data` back.
        held_out: share of the images of `data` that judge then, and do not train.
        depth_range: metres of the first and the last bin; None is what the data holds.
        steps: of the optimizer.
        cache: where features are kept; None is beside the output.
        force: replace a file that is there.
    """

    task: str = option("", f"{', '.join(Task)}; required.", metavar="NAME")
    data: Path | None = option(None, "Images with classes, masks or depths; required.", kind=Path, metavar="DIR")
    output: Path = option(
        Path("head.safetensors"), "The file to write.", kind=Path, metavar="FILE", shown="head.safetensors"
    )
    checkpoint: CheckpointSource = field(default_factory=CheckpointSource)
    core_counts: tuple[int, ...] = option(
        (),
        "Core counts that the head serves: a list (8,16,64) or all.",
        flag="--cores",
        metavar="LIST",
        shown="all",
        parse=lists.core_counts,
    )
    image_size: ImageSize | None = option(
        None, "256 or HxW, in pixels.", metavar="SIZE", shown="256; the demo's own 32", parse=lists.one_image_size
    )
    map_stride: int = option(
        MAP_STRIDE, "Pixels of the image to one of a mask or depth.", kind=int, shown=str(MAP_STRIDE), lowest=1
    )
    evaluation: Path | None = option(
        None, "Data that judges, laid out like --data.", kind=Path, metavar="DIR", shown="some of --data"
    )
    held_out: float = option(
        0.2, "Share of the images that judge where there is no --evaluation, 0 to 1.", kind=float, shown="0.2"
    )
    depth_range: tuple[float, float] | None = option(
        None,
        "The first and the last bin of depth, in metres.",
        metavar="MIN,MAX",
        shown="what the data holds",
        parse=lists.depth_range,
    )
    steps: int = option(2000, "Steps of training.", kind=int, shown="2000", lowest=1)
    seed: int = option(0, "Seed of the split, the order and the first weights.", kind=int, shown="0")
    cache: Path | None = option(
        None, "Where features are kept.", kind=Path, metavar="DIR", shown="FILE.features, beside the output"
    )
    force: bool = option(False, "Replace a file that is there.", kind=bool)

    def __post_init__(self) -> None:
        super().__post_init__()
        read_plain(self)
