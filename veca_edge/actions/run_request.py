"""What a user asks of a run. The command line is made from these fields, so that both share every default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..base import lists
from ..base.options import option, threads_option
from ..base.spec import ImageSize
from ..base.units import parse_milliseconds, parse_seconds
from ..runtime.capture import CaptureMode


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which model of a bundle runs, and how.

    Attributes:
        core_count, precision, image_size: None, for images, is the only one there is; live it is the largest core
            count, the bundle's first precision and its first size.
        threads: CPU threads; None leaves it to the runtime.
        format: of the files; see `load_bundle`.
    """

    core_count: int | None = option(
        None,
        "Core count; required for images where the bundle holds several.",
        flag="--cores",
        kind=int,
        shown="live, the largest",
        lowest=1,
    )
    precision: str | None = option(
        None, "Precision; required for images where there are several.", metavar="NAME", shown="live, the first"
    )
    image_size: ImageSize | None = option(
        None,
        "Image size; required for images where there are several.",
        metavar="SIZE",
        shown="live, the first",
        parse=lists.one_image_size,
    )
    threads: int | None = threads_option("the runtime's choice")
    format: str | None = option(
        None,
        "Kind of file: onnx runs a Jetson bundle's ONNX files here, to see what they compute.",
        metavar="NAME",
        shown="what runs on the device",
    )


@dataclass(frozen=True)
class LiveRequest(ModelChoice):
    """What to run on which frames, and until when.

    Attributes:
        source: as `find_source` takes it.
        budget_ms: what the model may take for a frame; it moves between all core counts of the bundle to hold it.
        frame_budget_ms: what a frame may take from its capture to its result, of which the model gets what the
            other stages leave.
        min_cosine: the floor of fidelity below which `budget_ms` may not push; see `Model.adapt`.
        capture: size, rate and format that a camera is asked for; what it gives is said.
        fps: at most so many frames a second, as a camera would give them; none is left out.
        repeat: begin again where the folder or the video ends.
        frames, seconds: end after so many, or so long after the first.
    """

    bundle: Path
    source: str
    budget_ms: float | None = option(
        None,
        "Live: choose the core count so that the model takes at most this (33ms).",
        flag="--budget",
        metavar="TIME",
        parse=parse_milliseconds,
    )
    frame_budget_ms: float | None = option(
        None,
        "Live: choose the core count so that a frame takes at most this from its capture to its result.",
        flag="--frame-budget",
        metavar="TIME",
        parse=parse_milliseconds,
    )
    min_cosine: float | None = option(
        None,
        "With --budget: no core count whose cosine with the full model is below this.",
        kind=float,
        lowest=-1,
        highest=1,
    )
    fps: float | None = option(
        None, "Live: at most so many frames a second of a folder or video; none is left out.", kind=float, lowest=0.001
    )
    repeat: bool = option(False, "Live: begin a folder or video again at its end.", kind=bool)
    capture: CaptureMode | None = option(
        None,
        "Live: ask the camera for a size, a rate and a format (1920x1080@30:nv12).",
        metavar="MODE",
        parse=CaptureMode.parse,
    )
    frames: int | None = option(None, "Live: end after so many frames.", kind=int, lowest=1)
    seconds: float | None = option(
        None, "Live: end after this time (10s, 5m).", flag="--duration", metavar="TIME", parse=parse_seconds
    )

    @property
    def is_adaptive(self) -> bool:
        """Whether a budget chooses the core count."""
        return self.budget_ms is not None or self.frame_budget_ms is not None
