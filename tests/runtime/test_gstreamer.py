"""Real GStreamer pipelines: test patterns as cameras and files, and a camera on loopback that dies and returns."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from veca_edge.actions.live import open_live
from veca_edge.actions.run_request import LiveRequest
from veca_edge.base.errors import EdgeError
from veca_edge.runtime import ffmpeg, gstreamer, sources
from veca_edge.runtime.sources import find_source, frames_of

if not gstreamer.has_gstreamer():
    pytest.skip(
        f"Python can't import GStreamer: {gstreamer.INSTALL}, or pip install 'PyGObject<3.52'", allow_module_level=True
    )
Gst = gstreamer.import_gst("Testing")[0]
NEEDS_AV = "PyAV is not installed: pip install 'veca-edge[camera]'"
FORMATS = {"NV12": "nv12", "I420": "i420", "YUY2": "yuyv", "RGB": "rgb", "BGR": "bgr"}


def pattern(count=5, size=(98, 162), form="NV12", rate=30, extra="pattern=smpte75"):
    caps = f"video/x-raw,format={form},width={size[1]},height={size[0]},framerate={rate}/1"
    return f"gst:videotestsrc num-buffers={count} {extra} ! {caps}"


def test_every_layout_is_the_same_picture():
    made = {}
    for form, layout in FORMATS.items():
        frames = list(frames_of(find_source(pattern(3, form=form))))
        assert [frame.number for frame in frames] == [0, 1, 2]
        assert frames[0].picture.layout == layout
        assert frames[0].picture.size == (98, 162)
        assert frames[0].rate == 30
        assert frames[2].name == "pipeline#2"
        made[form] = frames[0].pixels
    for form, pixels in made.items():
        # The colour bars; snow is beside them in the lower third, and colours bleed where bars meet.
        difference = np.abs(pixels[:60].astype(int) - made["RGB"][:60])
        assert np.median(difference) <= 2, form
        assert difference.mean() < 4, form


def test_a_file_ends_and_a_camera_is_gone():
    source = find_source(pattern(4))
    assert not source.is_live
    assert len(list(frames_of(source))) == 4
    source = find_source(pattern(4, extra="is-live=true"))
    assert source.is_live
    taken = []
    with pytest.raises(EdgeError, match=r"The live pipeline .* gave no more frames after 4"):
        taken.extend(frame.number for frame in frames_of(source))


def test_a_file_says_when_its_frames_are_shown():
    assert [frame.shown for frame in frames_of(find_source(pattern(3, rate=20)))] == pytest.approx([0, 0.05, 0.1])
    camera = frames_of(find_source(pattern(3, extra="is-live=true")))
    assert next(camera).shown is None
    camera.close()


def test_pairs_of_pixels_of_an_odd_width():
    white = pattern(1, (17, 33), "RGB", extra="pattern=white")
    (frame,) = frames_of(find_source(f"{white} ! videoconvert ! video/x-raw,format=YUY2"))
    assert frame.picture.size == (17, 33)
    np.testing.assert_allclose(frame.pixels, 255, atol=2)


def test_a_live_pipeline_has_no_end_to_repeat_at(exported_square):
    live = pattern(3, extra="is-live=true")
    with pytest.raises(EdgeError, match="no end to repeat at"):
        open_live(LiveRequest(exported_square.directory, live, repeat=True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gst:nosuchelement", "not a pipeline that GStreamer can make.*nosuchelement"),
        ("gst:videotestsrc ! ! x", "not a pipeline that GStreamer can make"),
        ("gst:", "not a pipeline that GStreamer can make"),
        ("gst:filesrc location=/nowhere.mp4 ! decodebin", "filesrc.*No such file"),
        ("gst:audiotestsrc", "not a pipeline that GStreamer can make|could not link"),
        ("gst:fakesrc num-buffers=3", "gives no pictures, but bytes"),
        ("gst:videotestsrc num-buffers=0", "gave no frame"),
    ],
)
def test_what_does_not_run_is_one_message(text, said):
    with pytest.raises(EdgeError, match=said) as caught:
        list(frames_of(find_source(text)))
    assert "\n" not in caught.value.message


def test_errors_of_other_libraries_stay_errors():
    """GStreamer's unwinder beside the compiler's own would end the process at the first C++ exception."""
    code = """
from veca_edge.runtime.gstreamer import import_gst
import_gst("This test")
import onnxruntime
try:
    onnxruntime.InferenceSession(b"no model")
except Exception as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "InvalidProtobuf"), done.stderr


def test_a_slow_model_gets_the_newest_frame(exported_square):
    """Every frame of the camera was either run or is counted as dropped."""
    # Half a minute of it: the run ends first, on however slow a machine.
    source = pattern(3000, (32, 32), rate=100, extra="is-live=true")
    request = LiveRequest(exported_square.directory, source, core_count=8, threads=1, frames=20)
    numbers, dropped = [], 0
    with open_live(request) as live:
        for step in live:
            time.sleep(0.05)
            numbers.append(step.frame.number)
            assert step.dropped == step.frame.number - len(numbers) + 1
            dropped = step.dropped
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 20
    assert dropped > 0


class Camera:
    """An RTSP server on loopback with a test pattern."""

    def __init__(self, port: int = 0):
        import gi

        gi.require_version("GstRtspServer", "1.0")
        from gi.repository import GLib, GstRtspServer

        self._context = GLib.MainContext()
        self._loop = GLib.MainLoop(self._context)
        self._server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(port))
        factory = GstRtspServer.RTSPMediaFactory(shared=True)
        factory.set_launch(
            "( videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=96,framerate=30/1 "
            "! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
        )
        self._server.get_mount_points().add_factory("/test", factory)
        self._id = self._server.attach(self._context)
        if not self._id:
            raise OSError(f"port {port} is taken")
        self.port = self._server.get_bound_port()
        self._thread = threading.Thread(target=self._loop.run, daemon=True)
        self._thread.start()

    def die(self):
        from gi.repository import GLib

        def end():
            self._server.client_filter(lambda *_: 0)  # GST_RTSP_FILTER_REMOVE
            for source in (self._context.find_source_by_id(self._id),):
                source.destroy()
            self._loop.quit()

        GLib.MainContext.invoke_full(self._context, GLib.PRIORITY_DEFAULT, end)
        self._thread.join(5)


@pytest.fixture
def network():
    pytest.importorskip("gi")
    import gi

    try:
        gi.require_version("GstRtspServer", "1.0")
    except ValueError:
        pytest.skip("GStreamer's RTSP server is not installed: apt install gir1.2-gst-rtsp-server-1.0")
    for element in ("rtspsrc", "jpegenc", "rtpjpegpay"):
        if Gst.ElementFactory.find(element) is None:
            pytest.skip(f"GStreamer has no {element}: apt install gstreamer1.0-plugins-good")
    made = []

    def camera(port=0):
        made.append(Camera(port))
        return made[-1]

    yield camera
    for each in made:
        each.die()


@pytest.mark.parametrize(("colours", "said"), [("bt2100-pq", "PQ"), ("bt2100-hlg", "HLG")])
def test_hdr_is_refused(colours, said):
    with pytest.raises(EdgeError, match=rf"The pipeline has HDR colours \({said}\).*\nSet the camera to SDR"):
        next(frames_of(find_source(f"{pattern()},colorimetry={colours}")))


@pytest.mark.parametrize("reader", [gstreamer, ffmpeg], ids=["gstreamer", "ffmpeg"])
def test_a_network_camera_that_dies_comes_back(network, monkeypatch, reader):
    """FFmpeg reads it where Python can't import GStreamer."""
    if reader is ffmpeg:
        pytest.importorskip("av", reason=NEEDS_AV)
        monkeypatch.setattr(sources, "has_gstreamer", lambda: False)
    monkeypatch.setattr(sources, "BACKOFF_S", 0.1)
    first = network()
    source = find_source(f"rtsp://127.0.0.1:{first.port}/test")
    assert (source.pipeline is None) == (reader is ffmpeg)
    monkeypatch.setattr(reader, "SILENCE_S", 3.0)
    frames = frames_of(source)
    taken = [next(frames) for _ in range(5)]
    assert taken[0].picture.size == (96, 160)
    first.die()
    back = threading.Timer(0.5, lambda: network(first.port))
    back.start()
    until = time.monotonic() + 120
    while taken[-1].reconnected == 0 and time.monotonic() < until:
        taken.append(next(frames))
    back.join()
    frames.close()
    assert taken[-1].reconnected == 1
    assert [frame.number for frame in taken] == list(range(len(taken)))


def test_a_jetsons_own_converter_fetches_pictures():
    """By a double of that name, in a process of its own; that it reads a board's memory has not been seen."""
    code = """
from veca_edge.runtime.gstreamer import import_gst, rtsp_pipeline

Gst = import_gst("This test")[0]
assert "nvvidconv" not in rtsp_pipeline("rtsp://camera/a")
double = Gst.ElementFactory.find("videoconvert").load().get_element_type()
Gst.Element.register(None, "nvvidconv", Gst.Rank.NONE, double)
pipeline = rtsp_pipeline("rtsp://camera/a")
assert pipeline.endswith(" ! decodebin ! nvvidconv ! video/x-raw ! videoconvert"), pipeline
Gst.parse_launch(pipeline + " ! fakesink")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_without_gstreamer_a_network_camera_that_is_not_there_is_one_message(monkeypatch):
    pytest.importorskip("av", reason=NEEDS_AV)
    monkeypatch.setattr(sources, "has_gstreamer", lambda: False)
    with pytest.raises(EdgeError, match=r"rtsp://127\.0\.0\.1:1/test could not be opened \(Connection refused\)"):
        next(frames_of(find_source("rtsp://127.0.0.1:1/test")))


def test_a_network_camera_that_stays_away_is_one_message(network, monkeypatch):
    monkeypatch.setattr(sources, "BACKOFF_S", 0.1)
    monkeypatch.setattr(sources, "GIVE_UP_S", 0.5)
    with pytest.raises(EdgeError, match=r"127\.0\.0\.1:1/test"):
        next(frames_of(find_source("rtsp://127.0.0.1:1/test")))
    camera = network()
    frames = frames_of(find_source(f"rtsp://127.0.0.1:{camera.port}/test"))
    next(frames)
    monkeypatch.setattr(gstreamer, "SILENCE_S", 1.0)
    camera.die()
    with pytest.raises(EdgeError, match="did not come back within"):
        for _ in frames:
            pass
