"""A camera through OpenCV, played by a video, since none can be counted on."""

import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.runtime.capture import CaptureMode
from veca_edge.runtime.opencv import import_cv2
from veca_edge.runtime.sources import find_source, frames_of

pytest.importorskip("cv2")
cv2 = import_cv2("Testing")
COLOURS = ((220, 30, 30), (30, 200, 40), (20, 40, 210))


@pytest.fixture
def camera(monkeypatch, tmp_path):
    """A camera with the number 3 that shows the video and is then unplugged; yields what was asked of OpenCV."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    for red, green, blue in COLOURS:
        writer.write(np.full((48, 64, 3), (blue, green, red), np.uint8))
    writer.release()
    asked, real = [], cv2.VideoCapture

    class Camera:
        def __init__(self, name):
            asked.append(name)
            self.video = real(str(path))

        def set(self, prop, value):
            asked.append((prop, value))

        def isOpened(self):
            return asked[0] == 3

        def get(self, prop):
            return self.video.get(prop)

        def read(self, image=None):
            return self.video.read(image)

        def release(self):
            asked.append("released")

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    return asked


def test_a_camera_is_let_go_and_says_when_it_stops(camera):
    source = find_source("3")
    assert source.kind == "camera"
    frames = frames_of(source)
    np.testing.assert_allclose(next(frames).pixels.mean((0, 1)), COLOURS[0], atol=6)
    assert camera == [3, (cv2.CAP_PROP_BUFFERSIZE, 1)]
    frames.close()
    assert camera[-1] == "released"
    with pytest.raises(EdgeError, match="camera 3 gave no more frames after 3"):
        list(frames_of(source))


@pytest.mark.parametrize("name", ["97", "/dev/video97"])
def test_a_camera_that_is_not_there(name):
    source = find_source(name)
    assert source.kind == "camera"
    with pytest.raises(EdgeError, match=f"The camera {name} could not be opened") as caught:
        next(frames_of(source))
    assert "/dev/video" in caught.value.hint


def test_opencv_adds_nothing_to_what_is_said():
    """In a process of its own, where nobody else prints either."""
    code = """
from veca_edge.base.errors import EdgeError
from veca_edge.runtime.sources import find_source, frames_of

try:
    next(frames_of(find_source("97")))
except EdgeError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_frames_that_are_kept_stay_as_they_are(camera):
    """OpenCV fills buffers again, but none that somebody looks at."""
    frames = list(islice(frames_of(find_source("3")), 3))
    kept = [frame.picture.planes[0][10:20] for frame in frames]
    del frames
    for pixels, colour in zip(kept, COLOURS, strict=True):
        np.testing.assert_allclose(pixels.mean((0, 1))[::-1], colour, atol=6)
    numbers = [id(frame.picture.planes[0]) for frame in islice(frames_of(find_source("3")), 3)]
    assert len(set(numbers)) < 3


def test_a_camera_is_asked_for_a_mode(camera):
    frames = frames_of(find_source("3", CaptureMode.parse("640x480@15:yuyv")))
    assert next(frames).rate == 5, "what it gives is said, whatever was asked for"
    frames.close()
    wanted = [cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS]
    assert [asked for asked in camera if isinstance(asked, tuple) and asked[0] in wanted] == [
        *zip(wanted, (cv2.VideoWriter.fourcc(*"YUYV"), 640, 480, 15.0), strict=True)
    ]
