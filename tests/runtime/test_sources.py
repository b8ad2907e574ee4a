"""Frames from real folders and videos; a camera is played by a video, since none can be counted on."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from veca_edge.base.errors import EdgeError, MissingDependency
from veca_edge.base.spec import ImageSize
from veca_edge.images.preprocessing import prepare
from veca_edge.runtime import sources
from veca_edge.runtime.capture import CaptureMode
from veca_edge.runtime.sources import Source, find_source, frame_rate, frames_of, import_cv2

pytest.importorskip("cv2")
cv2 = import_cv2("Testing")
COLOURS = ((220, 30, 30), (30, 200, 40), (20, 40, 210))


@pytest.fixture
def folder(tmp_path):
    """Three images of different sizes, one below another folder, one upright only by its EXIF data."""
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, height, width in (("c.png", 40, 60), ("a.png", 50, 30), ("b/x.png", 33, 47)):
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(root / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(random.integers(0, 256, (20, 70, 3), np.uint8)).save(root / "d.png", exif=exif)
    return root


@pytest.fixture
def video(tmp_path):
    """Three frames of 64 x 48 pixels, red, green and blue, at 5 a second."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    for red, green, blue in COLOURS:
        writer.write(np.full((48, 64, 3), (blue, green, red), np.uint8))
    writer.release()
    return path


@pytest.fixture
def camera(monkeypatch, video):
    """A camera with the number 3 that shows the video and is then unplugged; yields what was asked of OpenCV."""
    asked, real = [], cv2.VideoCapture

    class Camera:
        def __init__(self, name):
            asked.append(name)
            self.video = real(str(video))

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


def test_a_folder_is_read_in_order_as_calibration_reads_it(folder):
    frames = list(frames_of(find_source(str(folder))))
    assert [f.number for f in frames] == [0, 1, 2, 3]
    assert [f.name for f in frames] == ["a.png", "b/x.png", "c.png", "d.png"]
    assert frames[3].pixels.shape == (70, 20, 3)
    for frame in frames:
        for size in (ImageSize(32, 32), ImageSize(16, 48)):
            np.testing.assert_array_equal(prepare(frame.pixels, size), prepare(folder / frame.name, size))


def test_a_video_is_read_in_rgb(video):
    source = find_source(str(video))
    frames = list(frames_of(source))
    assert [f.name for f in frames] == ["clip.mp4#0", "clip.mp4#1", "clip.mp4#2"]
    for frame, colour in zip(frames, COLOURS, strict=True):
        assert frame.pixels.shape == (48, 64, 3)
        assert frame.pixels.dtype == np.uint8
        np.testing.assert_allclose(frame.pixels.mean((0, 1)), colour, atol=6)
    assert frame_rate(source) == 5


def test_a_decoder_leaves_half_of_the_cpus_to_others(video, monkeypatch):
    """Where it can be told so; where not, the video is read all the same."""
    asked, real = [], cv2.VideoCapture

    def opened(name, *options):
        asked.append(options)
        return real(f"{name} is nowhere" if options and refuses else name, *options)

    monkeypatch.setattr(sources, "usable_cpu_count", lambda: 8)
    monkeypatch.setattr(cv2, "VideoCapture", opened)
    refuses = False
    assert len(list(frames_of(find_source(str(video))))) == 3
    refuses = True
    assert len(list(frames_of(find_source(str(video))))) == 3
    told = (cv2.CAP_ANY, [cv2.CAP_PROP_N_THREADS, 4])
    assert asked == [told, told, ()]


def test_repeats_and_numbers_go_on(video, folder):
    for path, count in ((video, 3), (folder, 4)):
        frames = frames_of(find_source(str(path)), repeat=True)
        taken = [next(frames) for _ in range(2 * count + 1)]
        frames.close()
        assert [f.number for f in taken] == list(range(2 * count + 1))
        assert taken[0].name == taken[count].name == taken[2 * count].name
        np.testing.assert_array_equal(taken[0].pixels, taken[count].pixels)


def test_a_camera_is_let_go_and_says_when_it_stops(camera):
    source = find_source("3")
    assert (source.kind, frame_rate(source)) == ("camera", None)
    frames = frames_of(source)
    np.testing.assert_allclose(next(frames).pixels.mean((0, 1)), COLOURS[0], atol=6)
    assert camera == [3, (cv2.CAP_PROP_BUFFERSIZE, 1)]
    frames.close()
    assert camera[-1] == "released"
    with pytest.raises(EdgeError, match="camera 3 gave no more frames after 3"):
        list(frames_of(source))


@pytest.mark.parametrize("name", ["97", "/dev/video97"])
def test_a_camera_that_is_not_there(name, capfd):
    source = find_source(name)
    assert source.kind == "camera"
    with pytest.raises(EdgeError, match=f"The camera {name} could not be opened") as caught:
        next(frames_of(source))
    assert "/dev/video" in caught.value.hint
    assert capfd.readouterr() == ("", ""), "OpenCV has nothing to add"


def test_what_is_no_source(tmp_path, folder):
    for name, said in (
        (str(tmp_path / "absent"), "There is no source"),
        ("http://camera", "There is no kind of source 'http'"),
        (str(folder / "a.png"), "is an image"),
    ):
        with pytest.raises(EdgeError, match=said) as caught:
            find_source(name)
        assert "a camera" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgeError, match="no images in"):
        find_source(str(tmp_path / "empty"))


def test_frames_that_are_kept_stay_as_they_are(video):
    """Decoders fill buffers again, but none that somebody looks at."""
    frames = list(frames_of(find_source(str(video)), repeat=False))
    kept = [frame.picture.planes[0][10:20] for frame in frames]
    del frames
    for pixels, colour in zip(kept, COLOURS, strict=True):
        np.testing.assert_allclose(pixels.mean((0, 1))[::-1], colour, atol=6)
    numbers = [id(frame.picture.planes[0]) for frame in frames_of(find_source(str(video)), repeat=False)]
    assert len(set(numbers)) < 3


def test_a_camera_is_asked_for_a_mode(camera):
    frames = frames_of(find_source("3", CaptureMode.parse("640x480@15:yuyv")))
    assert next(frames).rate == 5, "what it gives is said, whatever was asked for"
    frames.close()
    wanted = [cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS]
    assert [asked for asked in camera if isinstance(asked, tuple) and asked[0] in wanted] == [
        *zip(wanted, (cv2.VideoWriter.fourcc(*"YUYV"), 640, 480, 15.0), strict=True)
    ]


def test_modes_are_read_strictly(video):
    assert str(CaptureMode.parse("1920x1080@29.97:nv12")) == "1920x1080@29.97:nv12"
    assert CaptureMode.parse("640x480") == CaptureMode(640, 480)
    for text in ("1920", "1920x0", "axb", "1920x1080@", "1920x1080@0", "1x1@30 !"):
        with pytest.raises(EdgeError, match="can't be asked for"):
            CaptureMode.parse(text)
    with pytest.raises(EdgeError, match=r"'h264'.*\n.*nv12, yuyv, i420, mjpg"):
        CaptureMode.parse("640x480:h264")
    with pytest.raises(EdgeError, match="is not a camera that could be asked for 640x480"):
        find_source(str(video), CaptureMode(640, 480))


def test_what_does_not_decode(tmp_path, video, folder, capfd):
    broken, cut = tmp_path / "broken.mp4", tmp_path / "cut.mp4"
    broken.write_bytes(b"no video at all" * 100)
    cut.write_bytes(video.read_bytes()[:200])
    for path in (broken, cut):
        with pytest.raises(EdgeError, match=f"{path.name} is not a video"):
            next(frames_of(find_source(str(path))))
    (folder / "b" / "x.png").write_bytes(b"no image")
    frames = frames_of(find_source(str(folder)))
    assert next(frames).name == "a.png"
    with pytest.raises(EdgeError, match=r"x\.png \(not an image"):
        next(frames)
    assert capfd.readouterr() == ("", "")


def test_without_opencv_the_extra_is_named(monkeypatch, video, folder):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependency) as caught:
        next(frames_of(Source("video", str(video))))
    assert "veca-edge[camera]" in caught.value.hint
    assert next(frames_of(find_source(str(folder)))).name == "a.png"


def test_a_folder_needs_neither_opencv_nor_torch(folder):
    code = f"""
import sys
from veca_edge.runtime.capture import CaptureMode
from veca_edge.runtime.sources import find_source, frames_of
assert len(list(frames_of(find_source({str(folder)!r})))) == 4
heavy = {{"torch", "onnx", "cv2", "typer", "rich"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
