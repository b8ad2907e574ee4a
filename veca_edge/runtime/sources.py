"""Where frames come from: a folder of images, a video file, a camera.

Images are read as calibration reads them; videos and cameras come through OpenCV (extra `camera`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import EdgeError, MissingDependency
from ..images.folder import SUFFIXES, find_images
from ..images.preprocessing import load_pixels

KINDS = "a folder of images, a video file, or a camera: its number (0) or its device (/dev/video0)"


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    Attributes:
        number: from 0, over all of a source's frames.
        name: the image's path below its folder; else the source with the frame's number in it (`clip.mp4#12`).
        pixels: uint8 RGB `[h, w, 3]`, upright, in the source's own size.
    """

    number: int
    name: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Source:
    """Where frames come from, found but not yet opened.

    Attributes:
        kind: `folder`, `video` or `camera`.
        name: as it was given.
        images: the images of a folder, in order.
    """

    kind: str
    name: str
    images: tuple[Path, ...] = ()

    @property
    def is_endless(self) -> bool:
        return self.kind == "camera"


def find_source(text: str) -> Source:
    """What a text names: a camera where it is a number or a video device, else a folder or a video file.

    Raises:
        EdgeError: there is no such thing, a folder without images, or one image.
    """
    if re.fullmatch(r"[0-9]{1,4}|/dev/video[0-9]+", text):
        return Source("camera", text)
    path = Path(text)
    if path.is_dir():
        return Source("folder", text, tuple(find_images(path)))
    if not path.is_file():
        raise EdgeError(f"There is no source '{text}'.", f"A source is {KINDS}.")
    if path.suffix.lower() in SUFFIXES:
        raise EdgeError(f"{text} is an image; a source is {KINDS}.", "Leave out --source to run single images.")
    return Source("video", text)


def frames_of(source: Source, repeat: bool = False) -> Generator[Frame, None, None]:
    """The frames of a source, as fast as they are asked for; close the iterator to let a camera go.

    Args:
        repeat: begin again at the end; numbers go on.

    Raises:
        EdgeError: while iterating: no such camera, or it stopped; a video or an image that does not decode.
        MissingDependency: OpenCV is not installed.
    """
    number = 0
    while True:
        # Closed with this iterator, not when it happens to be collected.
        with closing(_pictures(source)) as pictures:
            for name, pixels in pictures:
                yield Frame(number, name, pixels)
                number += 1
        if not repeat:
            return


def frame_rate(source: Source) -> float | None:
    """Frames a second as a video states it; None for other sources, and for a video that states none."""
    if source.kind != "video":
        return None
    with _captured(source) as (cv2, capture):
        rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate < 1000 else None


def _pictures(source: Source) -> Generator[tuple[str, np.ndarray], None, None]:
    """Names and pixels, once through."""
    if source.kind == "folder":
        for path in source.images:
            yield path.relative_to(source.name).as_posix(), load_pixels(path)
        return
    label, count = Path(source.name).name, 0
    with _captured(source) as (cv2, capture):
        while True:
            there, pixels = capture.read()
            if not there:
                break
            yield f"{label}#{count}", cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
            count += 1
    if source.kind == "camera":
        raise EdgeError(
            f"The camera {source.name} gave no more frames after {count}.",
            "Check its cable, and that no other program uses it.",
        )
    if not count:
        raise EdgeError(f"No frame of {source.name} could be decoded.", _VIDEO_HINT)


_VIDEO_HINT = "Check that it plays, or convert it: ffmpeg -i FILE -c:v libx264 video.mp4"


@contextmanager
def _captured(source: Source) -> Iterator[tuple[Any, Any]]:
    """OpenCV, and a camera or a video that it opened."""
    cv2 = import_cv2("Reading a video or a camera")
    is_camera = source.kind == "camera"
    capture = cv2.VideoCapture(int(source.name) if is_camera and source.name.isdigit() else source.name)
    try:
        if not capture.isOpened():
            if is_camera:
                there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*")))
                raise EdgeError(
                    f"The camera {source.name} could not be opened.",
                    f"Cameras here: {there}." if there else "This machine shows no camera (/dev/video*).",
                )
            raise EdgeError(f"{source.name} is not a video that OpenCV can decode.", _VIDEO_HINT)
        if is_camera:
            # The newest frame is worth more than every frame; backends that keep a queue all the same ignore it.
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        yield cv2, capture
    finally:
        capture.release()


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """OpenCV, and a video that it opened, to read frames of one's own choice. Raises `EdgeError` as `frames_of`."""
    with _captured(Source("video", str(path))) as opened:
        yield opened


def import_cv2(purpose: str):
    """OpenCV, kept from printing what is said here as an `EdgeError`."""
    # FFmpeg's level "quiet"; OpenCV reads it when it first opens a video.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError:
        raise MissingDependency("opencv-python-headless", "camera", purpose) from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
