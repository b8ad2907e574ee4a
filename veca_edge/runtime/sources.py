"""Where frames come from: folders, videos, cameras, network streams, GStreamer pipelines.

Images are read as calibration reads them. Videos and cameras come through OpenCV (extra `camera`); CSI cameras and
pipelines through GStreamer, which network streams and V4L2 cameras take too where Python can import it.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..base.cpu_features import usable_cpu_count
from ..base.errors import EdgeError, MissingDependency
from ..images.folder import SUFFIXES, find_images
from ..images.pictures import Layout, Picture
from ..images.preprocessing import load_pixels
from .capture import FORMATS, CaptureMode
from .gstreamer import Stream, csi_pipeline, has_gstreamer, rtsp_pipeline, v4l2_pipeline

KINDS = (
    "a folder of images, a video file, a camera (0, /dev/video0, v4l2:///dev/video0, csi://0), a stream (rtsp://...), "
    "or a pipeline (gst:PIPELINE)"
)
# A stream that drops is tried again after so many seconds, then twice as many, and given up after the last.
BACKOFF_S, LONGEST_BACKOFF_S, GIVE_UP_S = 0.5, 8.0, 60.0


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    Attributes:
        number: from 0, over all of a source's frames.
        name: the image's path below its folder; else the source with the frame's number in it (`clip.mp4#12`).
        picture: upright, in the source's own size and layout.
        captured: when it was there, on the clock of `time.perf_counter`.
        reconnected: how often the source came back before it.
        rate: frames a second as the source states them, or None.
    """

    number: int
    name: str
    picture: Picture
    captured: float = 0.0
    reconnected: int = 0
    rate: float | None = None

    @property
    def pixels(self) -> np.ndarray:
        """uint8 RGB `[h, w, 3]`."""
        return self.picture.rgb


@dataclass(frozen=True)
class Source:
    """Where frames come from, found but not yet opened.

    Attributes:
        kind: `folder`, `video`, `camera`, `stream` (of a network) or `pipeline`.
        name: as it was given.
        images: the images of a folder, in order.
        mode: what a camera is asked for.
        pipeline: what GStreamer is to play, without a sink; None where OpenCV reads.
        is_live: it sets its own pace, so that only its newest frame is of use.
    """

    kind: str
    name: str
    images: tuple[Path, ...] = ()
    mode: CaptureMode | None = None
    pipeline: str | None = None
    is_live: bool = False

    @property
    def is_endless(self) -> bool:
        return self.kind in ("camera", "stream")


def find_source(text: str, mode: CaptureMode | None = None) -> Source:
    """What a text names.

    Args:
        mode: what a camera is asked for.

    Raises:
        EdgeError: there is no such thing, a folder without images, one image, a pipeline that does not parse, or a mode
            for what is not a camera.
    """
    source = _named(text, mode)
    if mode is not None and source.kind != "camera":
        raise EdgeError(f"{text} is not a camera that could be asked for {mode}.", "Leave out --capture.")
    return source


def _named(text: str, mode: CaptureMode | None) -> Source:
    if found := re.fullmatch(r"csi://([0-9]{1,2})", text):
        return Source("camera", text, (), mode, csi_pipeline(int(found[1]), mode), is_live=True)
    if found := re.fullmatch(r"v4l2://(/dev/[\w./-]+)", text):
        pipeline = v4l2_pipeline(found[1], mode) if has_gstreamer() else None
        return Source("camera", text, (), mode, pipeline, is_live=True)
    if re.fullmatch(r"[0-9]{1,4}|/dev/video[0-9]+", text):
        return Source("camera", text, (), mode, is_live=True)
    if re.match(r"rtsps?://", text):
        return Source("stream", text, pipeline=rtsp_pipeline(text) if has_gstreamer() else None, is_live=True)
    if text.startswith("gst:"):
        pipeline = text.removeprefix("gst:").strip()
        with closing(Stream(pipeline, "The pipeline")) as stream:
            return Source("pipeline", text, pipeline=pipeline, is_live=stream.is_live)
    if found := re.match(r"([a-z0-9]+)://", text):
        raise EdgeError(f"There is no kind of source '{found[1]}'.", f"A source is {KINDS}.")
    path = Path(text)
    if path.is_dir():
        return Source("folder", text, tuple(find_images(path)))
    if not path.is_file():
        raise EdgeError(f"There is no source '{text}'.", f"A source is {KINDS}.")
    if path.suffix.lower() in SUFFIXES:
        raise EdgeError(f"{text} is an image; a source is {KINDS}.", "Leave out --source to run single images.")
    return Source("video", text)


@dataclass(frozen=True)
class Shot:
    """A picture of a source, as `Frame` has it; `rate` is what the source states of its frames a second."""

    name: str
    picture: Picture
    captured: float
    rate: float | None = None


def frames_of(
    source: Source, repeat: bool = False, is_ending: Callable[[], bool] = lambda: False
) -> Generator[Frame, None, None]:
    """The frames of a source, as fast as they are asked for; close the iterator to let a camera go.

    Args:
        repeat: begin again at the end; numbers go on.
        is_ending: asked while there is nothing to read; the frames end when it says so.

    Raises:
        EdgeError: while iterating: no such camera, or it stopped; a stream that did not come back; a video or an image
            that does not decode.
        MissingDependency: OpenCV is not installed.
    """
    number = reconnected = 0
    while True:
        # Closed with this iterator, not when it happens to be collected.
        shots = _reconnecting(source, is_ending) if source.kind == "stream" else _shots(source, is_ending)
        with closing(shots):
            for shot in shots:
                if shot is None:
                    reconnected += 1
                    continue
                yield Frame(number, shot.name, shot.picture, shot.captured, reconnected, shot.rate)
                number += 1
        if not repeat or is_ending():
            return


def frame_rate(source: Source) -> float | None:
    """Frames a second as a video states it; None for other sources, and for a video that states none."""
    if source.kind != "video":
        return None
    with _captured(source) as (cv2, capture):
        return _stated_rate(cv2, capture)


def _stated_rate(cv2: Any, capture: Any) -> float | None:
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate < 1000 else None


def _reconnecting(source: Source, is_ending: Callable[[], bool]) -> Generator[Shot | None, None, None]:
    """The pictures of a stream, and None whenever it has come back."""
    count, lost_at, pause = 0, None, BACKOFF_S
    while True:
        try:
            with closing(_shots(source, is_ending, count)) as shots:
                for shot in shots:
                    if lost_at is not None:
                        yield None
                        lost_at, pause = None, BACKOFF_S
                    count += 1
                    yield shot
            problem = EdgeError(f"{source.name} ended.")
        except EdgeError as error:
            problem = error
        if is_ending():
            return
        if not count:
            raise problem
        now = time.monotonic()
        lost_at = now if lost_at is None else lost_at
        if now - lost_at > GIVE_UP_S:
            raise EdgeError(
                f"{source.name} gave no more frames after {count}, and did not come back within {GIVE_UP_S:g} s.",
                f"Last it said: {problem.message}",
            ) from problem
        until = now + pause
        while time.monotonic() < until and not is_ending():
            time.sleep(min(0.1, pause))
        pause = min(2 * pause, LONGEST_BACKOFF_S)


def _shots(source: Source, is_ending: Callable[[], bool], first: int = 0) -> Generator[Shot, None, None]:
    """The pictures, once through; `first` is the number in the first one's name."""
    if source.kind == "folder":
        for path in source.images:
            picture = Picture(Layout.RGB, (load_pixels(path),))
            yield Shot(path.relative_to(source.name).as_posix(), picture, time.perf_counter())
        return
    label, count = ("pipeline" if source.kind == "pipeline" else Path(source.name).name), first
    if source.pipeline is not None:
        called = "The pipeline" if source.kind == "pipeline" else source.name
        with closing(Stream(source.pipeline, called)) as stream:
            for picture, at, rate in stream.pictures(is_ending):
                yield Shot(f"{label}#{count}", picture, at, rate)
                count += 1
    else:
        with _captured(source) as (cv2, capture):
            rate, buffers = _stated_rate(cv2, capture), Buffers()
            while not is_ending():
                there, pixels = capture.read(buffers.free())
                if not there:
                    break
                buffers.keep(pixels)
                yield Shot(f"{label}#{count}", Picture(Layout.BGR, (pixels,)), time.perf_counter(), rate)
                count += 1
    if source.is_live and source.kind != "stream" and not is_ending():
        raise EdgeError(
            f"The camera {source.name} gave no more frames after {count}.",
            "Check its cable, and that no other program uses it.",
        )
    if source.kind != "stream" and not count and not is_ending():
        raise EdgeError(f"No frame of {source.name} could be decoded.", _VIDEO_HINT)


class Buffers:
    """Arrays for a decoder to fill again when nobody looks at them any more."""

    def __init__(self):
        self._kept: list[np.ndarray] = []

    def free(self) -> np.ndarray | None:
        for index in range(len(self._kept)):
            if sys.getrefcount(self._kept[index]) <= 2:  # the list's, and this call's
                return self._kept[index]
        return None

    def keep(self, pixels: np.ndarray) -> None:
        if not any(kept is pixels for kept in self._kept):
            # Of a stream that changes its size the old ones go.
            self._kept = [kept for kept in self._kept if kept.shape == pixels.shape] + [pixels]


_VIDEO_HINT = "Check that it plays, or convert it: ffmpeg -i FILE -c:v libx264 video.mp4"


@contextmanager
def _captured(source: Source) -> Iterator[tuple[Any, Any]]:
    """OpenCV, and a camera or a video that it opened."""
    cv2 = import_cv2("Reading a video or a camera")
    is_camera, name = source.kind == "camera", source.name.removeprefix("v4l2://")
    capture = _opened_video(cv2, name) if source.kind == "video" else None
    capture = capture or cv2.VideoCapture(int(name) if is_camera and name.isdigit() else name)
    try:
        if not capture.isOpened():
            if is_camera:
                there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*")))
                raise EdgeError(
                    f"The camera {source.name} could not be opened.",
                    f"Cameras here: {there}." if there else "This machine shows no camera (/dev/video*).",
                )
            if source.kind == "stream":
                raise EdgeError(f"{source.name} could not be opened.", "Check the address, and that the camera is on.")
            raise EdgeError(f"{source.name} is not a video that OpenCV can decode.", _VIDEO_HINT)
        if is_camera:
            # The newest frame is worth more than every frame; backends that keep a queue all the same ignore it.
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            if source.mode is not None:
                _ask(cv2, capture, source.mode)
        yield cv2, capture
    finally:
        capture.release()


def _opened_video(cv2: Any, name: str) -> Any | None:
    """A video whose decoder takes half of the CPUs: with one thread for each, as FFmpeg likes it, it would hold up the
    model. None where OpenCV's decoder can't be told."""
    threads = max(1, usable_cpu_count() // 2)
    capture = cv2.VideoCapture(name, cv2.CAP_ANY, [cv2.CAP_PROP_N_THREADS, threads])
    return capture if capture.isOpened() else None


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """OpenCV, and a video that it opened, to read frames of one's own choice. Raises `EdgeError` as `frames_of`."""
    with _captured(Source("video", str(path))) as opened:
        yield opened


def _ask(cv2: Any, capture: Any, mode: CaptureMode) -> None:
    """What the camera does not have it answers with the nearest that it has; the first frame shows what."""
    if mode.format is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*FORMATS[mode.format][0]))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, mode.width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, mode.height)
    if mode.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, mode.fps)


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
