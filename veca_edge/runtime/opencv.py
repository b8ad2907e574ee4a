"""Frames from cameras through OpenCV, where GStreamer is not there or was not asked for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import EdgeError, MissingDependency
from ..images.pictures import Layout, Picture
from .capture import FORMATS, Captured, CaptureMode


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


def camera_pictures(
    name: str, mode: CaptureMode | None, is_ending: Callable[[], bool]
) -> Generator[Captured, None, None]:
    """The pictures of a camera until it gives no more.

    Args:
        name: its number or its device, `0` or `/dev/video0`.

    Raises:
        EdgeError: it can't be opened.
        MissingDependency: OpenCV is not installed.
    """
    cv2 = import_cv2("Reading a camera")
    capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
    try:
        if not capture.isOpened():
            there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*")))
            raise EdgeError(
                f"The camera {name} could not be opened.",
                f"Cameras here: {there}." if there else "This machine shows no camera (/dev/video*).",
            )
        # The newest frame is worth more than every frame; backends that keep a queue all the same ignore it.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if mode is not None:
            _ask(cv2, capture, mode)
        stated = capture.get(cv2.CAP_PROP_FPS)
        rate, buffers = stated if 0 < stated < 1000 else None, Buffers()
        while not is_ending():
            there, pixels = capture.read(buffers.free())
            if not there:
                return
            buffers.keep(pixels)
            yield Captured(Picture(Layout.BGR, (pixels,)), time.perf_counter(), rate)
    finally:
        capture.release()


def _ask(cv2: Any, capture: Any, mode: CaptureMode) -> None:
    """What the camera does not have it answers with the nearest that it has; the first frame shows what."""
    if mode.format is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*FORMATS[mode.format][0]))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, mode.width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, mode.height)
    if mode.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, mode.fps)


class Buffers:
    """Arrays for OpenCV to fill again when nobody looks at them any more."""

    def __init__(self):
        self._kept: list[np.ndarray] = []

    def free(self) -> np.ndarray | None:
        for index in range(len(self._kept)):
            if sys.getrefcount(self._kept[index]) <= 2:  # the list's, and this call's
                return self._kept[index]
        return None

    def keep(self, pixels: np.ndarray) -> None:
        if not any(kept is pixels for kept in self._kept):
            # Of a camera that changes its size the old ones go.
            self._kept = [kept for kept in self._kept if kept.shape == pixels.shape] + [pixels]
