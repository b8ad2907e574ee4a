"""Where frames come from: folders, videos, cameras, network streams, GStreamer pipelines.

Images are read as calibration reads them. Videos come through FFmpeg and cameras through OpenCV (extra `camera`); CSI
cameras and pipelines through GStreamer, which network streams and V4L2 cameras take too where Python can import it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.errors import EdgeError
from ..images.folder import SUFFIXES, find_images
from ..images.pictures import Layout, Picture
from ..images.preprocessing import load_pixels
from . import ffmpeg
from .capture import Captured, CaptureMode
from .gstreamer import Stream, csi_pipeline, has_gstreamer, in_shell, rtsp_pipeline, v4l2_pipeline
from .opencv import camera_pictures

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
        shown: when a recording shows it, in seconds from its begin; None of a camera, and where it does not say.
    """

    number: int
    name: str
    picture: Picture
    captured: float = 0.0
    reconnected: int = 0
    rate: float | None = None
    shown: float | None = None

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
        pipeline: what GStreamer is to play, without a sink; None where FFmpeg or OpenCV reads.
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
    if re.match(r"(csi|v4l2)://", text):
        raise EdgeError(f"'{text}' names no camera.", "Name the sensor, csi://0, or the device, v4l2:///dev/video0.")
    if found := re.match(r"([a-z0-9]+)://", text):
        raise EdgeError(f"There is no kind of source '{found[1]}'.", f"A source is {KINDS}.")
    if not text.strip():
        raise EdgeError("--source is empty.", f"A source is {KINDS}.")
    path = Path(text)
    if path.is_dir():
        return Source("folder", text, tuple(find_images(path)))
    if not path.is_file():
        raise EdgeError(f"There is no source '{text}'.", f"A source is {KINDS}.")
    if path.suffix.lower() in SUFFIXES:
        raise EdgeError(f"{text} is an image; a source is {KINDS}.", "Leave out --source to run single images.")
    return Source("video", text)


class Shot(NamedTuple):
    """What a source gave, with the name that `Frame` has."""

    name: str
    captured: Captured


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
        MissingDependency: PyAV or OpenCV, whichever reads it, is not installed.
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
                picture, at, rate, shown = shot.captured
                yield Frame(number, shot.name, picture, at, reconnected, rate, shown)
                number += 1
        if not repeat or is_ending():
            return


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
            yield Shot(path.relative_to(source.name).as_posix(), Captured(picture, time.perf_counter(), None))
        return
    label, count = ("pipeline" if source.kind == "pipeline" else Path(source.name).name), first
    with closing(_captured(source, is_ending)) as captured:
        for one in captured:
            yield Shot(f"{label}#{count}", one)
            count += 1
    if source.kind == "stream" or is_ending():
        return
    if source.kind == "camera":
        raise EdgeError(
            f"The camera {source.name} gave no more frames after {count}.",
            "Check its cable, and that no other program uses it.",
        )
    if source.is_live:
        raise EdgeError(
            f"The live pipeline {source.name} gave no more frames after {count}.",
            "Check what it reads from: a camera may have been unplugged. End a run of your own with --frames.",
        )
    if not count:
        hint = ffmpeg.CONVERT if source.pipeline is None else f"Try: {in_shell(source.pipeline)}"
        raise EdgeError(f"{source.name} gave no frame.", hint)


def _captured(source: Source, is_ending: Callable[[], bool]) -> Generator[Captured, None, None]:
    """The pictures, by whoever reads this kind of source."""
    if source.pipeline is not None:
        called = "The pipeline" if source.kind == "pipeline" else source.name
        with closing(Stream(source.pipeline, called)) as stream:
            yield from stream.pictures(is_ending)
    elif source.kind == "camera":
        yield from camera_pictures(source.name.removeprefix("v4l2://"), source.mode, is_ending)
    else:
        yield from ffmpeg.captured_from(source.name, source.name, is_ending, is_file=source.kind == "video")
