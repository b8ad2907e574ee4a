"""What a live run leaves on disk: outputs, one row per frame, and the frames with what was seen on them.

Everything is streamed to a hidden sibling and gets its name when the run has ended, so that a run of any length takes
no more memory than a short one, and nothing half-written is left under its name.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..base.errors import EdgeError, unknown_name
from ..base.files import disk_errors, written_aside
from .ffmpeg import import_av, written_to
from .live import Live, Step
from .opencv import import_cv2
from .painting import Painter, chosen_shows
from .record import Record

if TYPE_CHECKING:
    from PIL import Image

Write = Callable[[Step], None]

CSV_COLUMNS = (
    *("frame", "name", "time_s", "core_count", "latency_ms", "label", "share"),
    *("wait_ms", "prepare_ms", "frame_ms", "dropped", "reconnected", "capture_ms"),
)
# Frames a second of an overlay where neither the source nor the user names any.
FOLDER_RATE, CAMERA_RATE = 10.0, 30.0
# Smaller pictures are enlarged by a whole factor, so that the caption can be read.
CAPTION_WIDTH = 320
# How long a frame of a camera is shown at least, in seconds.
SHORTEST_S = 0.001


def check_record(record: Record, of_images: bool = False) -> None:
    """Raises `EdgeError` for what could not be written at the end; it costs nothing to ask before the run.

    Args:
        of_images: the run is on images, whose overlay is a directory.
    """
    if of_images and record.overlay is not None and record.overlay.suffix:
        raise EdgeError(
            f"--overlay {record.overlay} is not the name of a directory: of images it is one, with a PNG file of each.",
            f"Give --overlay {record.overlay.with_suffix('')}, or another name without an ending.",
        )
    for option, path, suffixes in (
        ("--save", record.outputs, (".npz",)),
        ("--csv", record.table, (".csv",)),
        ("--summary", record.summary, (".json",)),
        ("--overlay", record.overlay, (".mp4", "")),
    ):
        if path is None:
            continue
        if path.suffix.lower() not in suffixes:
            kinds = " or ".join(f"a name that ends in {s}" if s else "a directory" for s in suffixes)
            raise EdgeError(f"{option} {path} is not a {suffixes[0]} file.", f"Give {kinds}.")
        if not path.absolute().parent.is_dir():
            raise EdgeError(f"{option} {path}: there is no directory {path.parent}.", "Make it first.")
        if path.is_dir():
            raise EdgeError(f"{option} {path} is a directory that exists already.", "Give another name.")
        if not os.access(path.absolute().parent, os.W_OK):
            raise EdgeError(f"{option} {path}: {path.absolute().parent} can't be written to.", "Give another place.")
    if record.output_names and record.outputs is None:
        raise EdgeError("--save-outputs says what goes into the file of --save.", "Give --save FILE.npz with it.")
    if record.show and record.overlay is None and not record.window:
        hint = "Give --overlay DIR with it." if of_images else "Give --overlay FILE, or --show-window."
        raise EdgeError("--show says what is painted, and nothing is.", hint)
    if record.overlay is not None and record.overlay.suffix:
        import_av("Writing an .mp4")
    if record.window:
        check_screen()


def check_screen() -> None:
    """Raises `EdgeError` where no window can be shown."""
    import sys

    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise EdgeError("--show-window needs a screen, and there is none.", "Give --overlay FILE.mp4 instead.")
    cv2 = import_cv2("Showing a window")
    if "GUI:                           NONE" in cv2.getBuildInformation():
        raise EdgeError(
            "This OpenCV can't show windows (it is the headless build).", "Run: pip install opencv-python, or --overlay"
        )


@contextmanager
def recorder(record: Record, live: Live) -> Iterator[Write]:
    """A function that records one step; the files get their names when the block ends well.

    Raises:
        EdgeError: an output that the model does not give; an overlay over its source; the disk is full or can't be
            written.
    """
    if record.overlay is not None and record.overlay.resolve() == Path(live.source.name).resolve():
        raise EdgeError(f"--overlay {record.overlay} would replace the source.", "Give another name.")
    artifact = live.model.artifact
    shows = chosen_shows(record.show, live.model.outputs) if record.overlay or record.window else ()
    painter = Painter(live.model.bundle, artifact, shows)
    with ExitStack() as stack:
        writes: list[Write] = []
        if record.outputs is not None:
            names = chosen_outputs(record.output_names, live.model.outputs)
            save = stack.enter_context(outputs_to(record.outputs, names))
            writes.append(lambda step: save(step.outputs))
        if record.table is not None:
            writes.append(stack.enter_context(table_to(record.table)))
        if record.overlay is not None and record.overlay.suffix:
            writes.append(stack.enter_context(video_to(record.overlay, live.fps, live.source.is_live, painter)))
        elif record.overlay is not None:
            writes.append(stack.enter_context(pictures_to(record.overlay, painter)))
        if record.window:
            writes.append(stack.enter_context(window_of(painter)))

        def write(step: Step) -> None:
            for each in writes:
                each(step)

        yield write


def chosen_outputs(wanted: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """The outputs to write: those wanted, else all but the large `dense`. Raises `EdgeError` for an unknown one."""
    for name in wanted:
        if name not in given:
            raise unknown_name("output", name, given)
    return tuple(wanted) or tuple(name for name in given if name != "dense") or tuple(given)


@contextmanager
def outputs_to(path: Path, names: Sequence[str]) -> Iterator[Callable[[Mapping[str, np.ndarray]], None]]:
    """A function that adds the outputs of one frame or image, without a batch axis, to an `.npz`."""
    with disk_errors(path), written_aside(path) as aside, ExitStack() as stack:
        spools = {name: stack.enter_context(tempfile.TemporaryFile(dir=path.absolute().parent)) for name in names}
        shapes: dict[str, tuple[int, ...]] = {}
        count = 0

        def write(outputs: Mapping[str, np.ndarray]) -> None:
            nonlocal count
            for name, spool in spools.items():
                shapes[name] = outputs[name].shape
                spool.write(outputs[name].astype("<f4").tobytes())
            count += 1

        yield write
        with zipfile.ZipFile(aside, "w") as archive:
            for name, spool in spools.items():
                spool.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array_header_1_0(
                        entry, {"descr": "<f4", "fortran_order": False, "shape": (count, *shapes.get(name, ()))}
                    )
                    shutil.copyfileobj(spool, entry)


@contextmanager
def table_to(path: Path) -> Iterator[Write]:
    """Writes a row of CSV for every step; the file has its name when the block ends."""
    with (
        disk_errors(path),
        written_aside(path) as aside,
        open(aside, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(CSV_COLUMNS)

        def write(step: Step) -> None:
            label, share = step.classes[0] if step.classes else ("", None)
            rows.writerow(
                [
                    step.frame.number,
                    step.frame.name,
                    f"{step.at:.4f}",
                    step.core_count,
                    f"{step.latency_ms:.3f}",
                    label,
                    "" if share is None else f"{share:.4f}",
                    f"{step.wait_ms:.3f}",
                    f"{step.prepare_ms:.3f}",
                    f"{step.frame_ms:.3f}",
                    step.dropped,
                    step.reconnected,
                    f"{step.capture_ms:.3f}",
                ]
            )

        yield write


@contextmanager
def pictures_to(directory: Path, painter: Painter) -> Iterator[Write]:
    """Writes a PNG for every step; the folder has its name when the block ends."""
    with disk_errors(directory), written_aside(directory) as aside:
        aside.mkdir()
        yield lambda step: captioned(step, painter).save(aside / f"{step.frame.number:06d}.png", compress_level=1)


@contextmanager
def window_of(painter: Painter) -> Iterator[Write]:
    """A window with the newest frame."""
    cv2 = import_cv2("Showing a window")
    name = "veca-edge"

    def write(step: Step) -> None:
        cv2.imshow(name, cv2.cvtColor(np.asarray(captioned(step, painter)), cv2.COLOR_RGB2BGR))
        cv2.waitKey(1)

    try:
        yield write
    finally:
        cv2.destroyAllWindows()


@contextmanager
def video_to(path: Path, rate: float | None, in_real_time: bool, painter: Painter) -> Iterator[Write]:
    """A video, as large as its first frame, which shows a recording's frames when that does.

    Args:
        rate: frames a second of what has no times; None is what the source states of its first frame, else a usual
            rate.
        in_real_time: show every frame as long as it took until the next, instead of each for `1 / rate` seconds.
    """
    with disk_errors(path), written_aside(path, ".mp4") as aside, ExitStack() as stack:
        begun: tuple[Callable[[np.ndarray, float], None], _Times] | None = None
        size: tuple[int, int] | None = None

        def write(step: Step) -> None:
            nonlocal begun, size
            if begun is None:
                stated = step.frame.rate if step.frame.shown is not None else rate or step.frame.rate
                fps = stated or (CAMERA_RATE if in_real_time else FOLDER_RATE)
                begun = stack.enter_context(written_to(aside, fps)), _Times(1 / fps)
            put, times = begun
            picture = captioned(step, painter, size)
            size = picture.size
            put(np.asarray(picture), times.after(step.at) if in_real_time else times.of(step.frame.shown))

        yield write
        if begun is None:
            raise EdgeError(f"There was no frame to write to {path}.", "Let the run last longer.")


class _Times:
    """When the frames of a video are shown, in seconds: each later than the one before.

    Args:
        frame_s: how long a frame is shown that says nothing of it.
    """

    def __init__(self, frame_s: float):
        self._frame_s, self._shown, self._begin = frame_s, -frame_s, 0.0

    def of(self, at: float | None) -> float:
        """Of the next frame, which a recording shows at `at` seconds from its begin; None where it does not say."""
        if at is None:
            return self.after(self._shown + self._frame_s)
        if self._begin + at < self._shown - SHORTEST_S:
            self._begin = self._shown + self._frame_s - at  # it began again
        return self.after(self._begin + at)

    def after(self, at: float) -> float:
        """At a time; two frames that a camera stamps with one time are shown one after the other."""
        self._shown = max(at, self._shown + SHORTEST_S)
        return self._shown


def captioned(step: Step, painter: Painter, size: tuple[int, int] | None = None) -> Image.Image:
    """The painted frame above a bar that says label, core count and latency; width and height are even.

    Args:
        size: (width, height) of the whole, which the frame is fitted into; None is the frame's own.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    picture = Image.fromarray(painter(step.frame.pixels, step.outputs, step.classes))
    if size is None:
        factor = -(-CAPTION_WIDTH // picture.width)
        width, height = (factor * side + factor * side % 2 for side in picture.size)
        text = max(14, width // 40)
        size = width, height + 4 * text
    else:
        text = max(14, size[0] // 40)
    room = size[0], size[1] - 4 * text
    whole = Image.new("RGB", size)
    whole.paste(ImageOps.pad(picture, room, Image.Resampling.BICUBIC), (0, 0))
    label = "{} {:.1%}".format(*step.classes[0]) if step.classes else step.frame.name
    said = f"{label}\n{step.core_count} cores  {step.latency_ms:.1f} ms"
    ImageDraw.Draw(whole).multiline_text(
        (text // 2, room[1] + text // 2), said, fill="white", spacing=text // 2, font=ImageFont.load_default(text)
    )
    return whole
