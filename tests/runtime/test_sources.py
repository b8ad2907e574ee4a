"""Frames from real folders and videos."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from videos import written

from veca_edge.base.errors import EdgeError, MissingDependency
from veca_edge.base.spec import ImageSize
from veca_edge.images.preprocessing import prepare
from veca_edge.runtime.capture import CaptureMode
from veca_edge.runtime.sources import Source, find_source, frames_of

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
    return written(tmp_path / "clip.mp4", [np.full((48, 64, 3), colour, np.uint8) for colour in COLOURS], rate=5)


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
        assert frame.rate == 5


def test_repeats_and_numbers_go_on(video, folder):
    for path, count in ((video, 3), (folder, 4)):
        frames = frames_of(find_source(str(path)), repeat=True)
        taken = [next(frames) for _ in range(2 * count + 1)]
        frames.close()
        assert [f.number for f in taken] == list(range(2 * count + 1))
        assert taken[0].name == taken[count].name == taken[2 * count].name
        np.testing.assert_array_equal(taken[0].pixels, taken[count].pixels)


def test_what_is_no_source(tmp_path, folder):
    for name, said in (
        (str(tmp_path / "absent"), "There is no source"),
        ("http://camera", "There is no kind of source 'http'"),
        ("csi://left", "'csi://left' names no camera.\nName the sensor, csi://0, or the device"),
        (str(folder / "a.png"), "is an image"),
    ):
        with pytest.raises(EdgeError, match=said) as caught:
            find_source(name)
        assert "camera" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgeError, match="no images in"):
        find_source(str(tmp_path / "empty"))


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


@pytest.mark.parametrize(("package", "kind"), [("av", "video"), ("cv2", "camera")])
def test_what_reads_is_named_with_its_extra(monkeypatch, package, kind, video, folder):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency) as caught:
        next(frames_of(Source(kind, str(video))))
    assert "veca-edge[camera]" in caught.value.hint
    assert next(frames_of(find_source(str(folder)))).name == "a.png"


def test_a_folder_needs_neither_decoder_nor_torch(folder):
    code = f"""
import sys
from veca_edge.runtime.capture import CaptureMode
from veca_edge.runtime.sources import find_source, frames_of
assert len(list(frames_of(find_source({str(folder)!r})))) == 4
heavy = {{"torch", "onnx", "cv2", "av", "typer", "rich"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
