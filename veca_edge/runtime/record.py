"""What a run may leave on disk, as it is asked for; `recording.py` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..base import lists
from ..base.options import option


@dataclass(frozen=True)
class Record:
    """What to write; None is nothing.

    Attributes:
        outputs: `.npz`: one float32 array per name of `output_names`, frames along the first axis.
        output_names: which; empty is every one but `dense`, which is by far the largest.
        table: `.csv`: one row per frame, `CSV_COLUMNS`.
        overlay: the frames with what the tasks say, core count and latency: an `.mp4`, or a directory of PNG files; of
            images, a directory.
        show: what to paint, of `painting.SHOWN`; empty is what the tasks say, or else the patch features.
        window: show it on the screen as well.
        summary: `.json`: what the run came to, for `veca-edge report --runs`; see `actions.recorded_run`.
    """

    outputs: Path | None = option(
        None,
        "Write outputs as .npz: one array each, images or frames along the first axis.",
        flag="--save",
        kind=Path,
        metavar="FILE",
    )
    output_names: tuple[str, ...] = option(
        (),
        "Which outputs to --save.",
        flag="--save-outputs",
        metavar="LIST",
        shown="images: all; live: all but dense",
        parse=lambda text: lists.names(text, "--save-outputs"),
    )
    table: Path | None = option(
        None, "Live: write time, core count, latency and label of every frame.", flag="--csv", kind=Path, metavar="FILE"
    )
    overlay: Path | None = option(
        None, "Write what the tasks say on the frames: .mp4 (live) or a folder.", kind=Path, metavar="FILE"
    )
    show: tuple[str, ...] = option(
        (),
        "What to paint: classes, segmentation, depth, pca, cores.",
        metavar="LIST",
        shown="what the tasks say, or else pca",
        parse=lambda text: lists.names(text, "--show"),
    )
    window: bool = option(False, "Live: show it on the screen.", flag="--show-window", kind=bool)
    summary: Path | None = option(
        None, "Live: write what the run came to as .json, for report --runs.", kind=Path, metavar="FILE"
    )

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.outputs, self.table, self.summary, self.overlay) if path is not None)
