"""Frames from GStreamer pipelines, through PyGObject: boards' cameras, network streams, whatever one writes down."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import numpy as np

from ..base.errors import EdgeError
from ..images.pictures import Layout, Picture, plane_in, plane_shapes
from .capture import FORMATS, Captured, CaptureMode, hdr_error

INSTALL = "sudo apt install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good gstreamer1.0-libav"
LAYOUTS = {"NV12": Layout.NV12, "I420": Layout.I420, "YUY2": Layout.YUYV, "RGB": Layout.RGB, "BGR": Layout.BGR}
SINK = "veca_edge"
# How long a pipeline may give nothing, in seconds.
SILENCE_S = 10.0
SLICE_NS = 100_000_000


def has_gstreamer() -> bool:
    try:
        import_gst("Looking for GStreamer")
    except EdgeError:
        return False
    return True


def import_gst(purpose: str) -> tuple[Any, Any, Any]:
    """Gst, GstVideo and GLib. Raises `EdgeError` that says how to install them."""
    _prefer_compilers_unwinder()
    try:
        import gi  # pyright: ignore[reportMissingImports]

        gi.require_version("Gst", "1.0")
        gi.require_version("GstVideo", "1.0")
        from gi.repository import GLib, Gst, GstVideo  # pyright: ignore
    except (ImportError, ValueError) as error:
        raise EdgeError(
            f"{purpose} needs GStreamer for Python ({error}).",
            f"Run: {INSTALL}; in a virtual environment of another Python: pip install 'PyGObject<3.52'",
        ) from None
    Gst.init(None)
    return Gst, GstVideo, GLib


def _prefer_compilers_unwinder() -> None:
    """Makes C++ exceptions of libraries that are loaded later find the unwinder that they were built for.

    Debian's GStreamer brings libunwind, which has functions of the same names. Python loads it for everybody, and an
    error of ONNX Runtime or PyTorch would then end the process.
    """
    with suppress(OSError):  # other systems have other unwinders
        ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)


def csi_pipeline(sensor: int, mode: CaptureMode | None) -> str:
    """A camera on a board's own connector: NVIDIA's source where it is there, else libcamera's."""
    Gst = import_gst("A CSI camera")[0]
    there = [name for name in ("nvarguscamerasrc", "libcamerasrc") if Gst.ElementFactory.find(name)]
    if not there:
        raise EdgeError(
            "This GStreamer has no source for CSI cameras.",
            "A Jetson has nvarguscamerasrc (sudo apt install nvidia-l4t-gstreamer), a Raspberry Pi libcamerasrc "
            "(sudo apt install gstreamer1.0-libcamera).",
        )
    if there[0] == "libcamerasrc":
        return f"libcamerasrc ! {raw_caps(mode)} ! videoconvert"
    caps = raw_caps(mode).replace("video/x-raw", "video/x-raw(memory:NVMM)", 1)
    return f"nvarguscamerasrc sensor-id={sensor} ! {caps} ! nvvidconv ! video/x-raw,format=NV12"


def v4l2_pipeline(device: str, mode: CaptureMode | None) -> str:
    if mode is not None and mode.format == "mjpg":
        return f"v4l2src device={device} ! {raw_caps(mode).replace('video/x-raw', 'image/jpeg', 1)} ! jpegdec"
    return f"v4l2src device={device} ! {raw_caps(mode)} ! videoconvert"


def rtsp_pipeline(address: str) -> str:
    quoted = '"' + address.replace("\\", "\\\\").replace('"', '\\"') + '"'
    # A Jetson's decoders leave pictures in memory of their own, which its own converter has to fetch.
    has_own = import_gst("A network camera")[0].ElementFactory.find("nvvidconv")
    fetched = "nvvidconv ! video/x-raw ! videoconvert" if has_own else "videoconvert"
    return f"rtspsrc location={quoted} latency=50 ! decodebin ! {fetched}"


def raw_caps(mode: CaptureMode | None) -> str:
    if mode is None:
        return "video/x-raw"
    rate = "" if mode.fps is None else f",framerate={round(1000 * mode.fps)}/1000"
    kind = f",format={FORMATS[mode.format][1]}" if mode.format and FORMATS[mode.format][1] else ""
    return f"video/x-raw{kind},width={mode.width},height={mode.height}{rate}"


def in_shell(pipeline: str) -> str:
    """The command that plays it without us."""
    return f"gst-launch-1.0 {pipeline} ! autovideosink"


class Stream:
    """A pipeline that ends in pictures, made but not yet playing.

    Args:
        pipeline: as `gst-launch-1.0` takes it, without a sink.
        label: what messages call it.

    Attributes:
        is_live: its source sets its own pace, as cameras do.

    Raises:
        EdgeError: it does not parse, or can't be started.
    """

    def __init__(self, pipeline: str, label: str):
        self.label = label
        Gst, self._video, GLib = import_gst(f"Reading {label}")
        self._gst = Gst
        caps = f"video/x-raw,format={{{','.join(LAYOUTS)}}}"
        text = f'{pipeline} ! appsink name={SINK} sync=false max-buffers=2 caps="{caps}"'
        try:
            self._pipeline = Gst.parse_launch(text)
        except GLib.Error as error:
            raise EdgeError(
                f"{label} is not a pipeline that GStreamer can make: {error.message}.",
                f"It has to work as: {in_shell(pipeline)}; pictures of other formats than "
                f"{', '.join(LAYOUTS)} need ! videoconvert at its end.",
            ) from None
        self._sink = self._pipeline.get_by_name(SINK)
        change = self._pipeline.set_state(Gst.State.PAUSED)
        if change == Gst.StateChangeReturn.FAILURE:
            problem = self._error() or EdgeError(
                f"{label} could not be started.", f"It has to work as: {in_shell(pipeline)}"
            )
            self.close()
            raise problem
        self.is_live = change == Gst.StateChangeReturn.NO_PREROLL

    def pictures(self, is_ending: Callable[[], bool]) -> Generator[Captured, None, None]:
        """The pictures until the stream ends.

        Raises:
            EdgeError: the pipeline fails, or gives nothing for `SILENCE_S` seconds.
        """
        Gst = self._gst
        self._pipeline.set_state(Gst.State.PLAYING)
        heard = time.monotonic()
        while not is_ending():
            sample = self._sink.emit("try-pull-sample", SLICE_NS)
            if sample is not None:
                heard = time.monotonic()
                yield self._captured(sample)
                heard = max(heard, time.monotonic() - SILENCE_S / 2)
                continue
            if problem := self._error():
                raise problem
            if self._sink.get_property("eos"):
                return
            if time.monotonic() - heard > SILENCE_S:
                raise EdgeError(f"{self.label} gave no frame for {SILENCE_S:g} s.", "Check its source and its caps.")

    def close(self) -> None:
        self._pipeline.set_state(self._gst.State.NULL)

    def _error(self) -> EdgeError | None:
        """What the pipeline complains about."""
        message = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        if message is None:
            return None
        error, more = message.parse_error()
        name = message.src.get_name() if message.src is not None else "a part"
        # Where in GStreamer's source it was noticed stands in the first line, what the system says below it.
        lines = [error.message, *(more or "").splitlines()[1:]]
        said = ", ".join(line.strip().rstrip(".") for line in lines[:2])
        return EdgeError(f"{self.label}: {name} says: {said}.", "Check the device, the address and the caps.")

    def _captured(self, sample: Any) -> Captured:
        now = time.perf_counter()
        buffer, caps = sample.get_buffer(), sample.get_caps()
        if caps is None or not caps.get_structure(0).has_name("video/x-raw"):
            raise EdgeError(
                f"{self.label} gives no pictures, but bytes.", "Decode them: ... ! decodebin ! videoconvert at its end."
            )
        info = self._video.VideoInfo.new_from_caps(caps)
        found, above, below = caps.get_structure(0).get_fraction("framerate")
        rate = above / below if found and above and below else None
        is_timed = not self.is_live and buffer.pts != self._gst.CLOCK_TIME_NONE
        shown = buffer.pts / self._gst.SECOND if is_timed else None
        return Captured(self._picture(buffer, info), now - self._age(buffer), rate, shown)

    def _age(self, buffer: Any) -> float:
        """Seconds since a live source stamped it."""
        clock = self._pipeline.get_clock()
        if not self.is_live or clock is None or buffer.pts == self._gst.CLOCK_TIME_NONE:
            return 0.0
        age = (clock.get_time() - self._pipeline.get_base_time() - buffer.pts) / 1e9
        return age if 0 < age < SILENCE_S else 0.0

    def _picture(self, buffer: Any, info: Any) -> Picture:
        layout = LAYOUTS[info.finfo.name]
        meta = self._video.buffer_get_video_meta(buffer)
        offsets, strides = (meta.offset, meta.stride) if meta is not None else (info.offset, info.stride)
        content = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8)
        shapes = plane_shapes(layout, info.height, info.width)
        planes = tuple(
            plane_in(content[offset:], shape, stride)
            for shape, offset, stride in zip(shapes, offsets, strides, strict=False)
        )
        if layout == Layout.YUYV and info.width % 2:
            # Its last pair has one pixel only.
            luma, chroma = planes[0][:, : info.width, 0], planes[0][:, :, 1]
            pairs = (chroma[:, 0::2], chroma[:, 1::2])
            layout, planes = Layout.I444, (luma, *(each.repeat(2, 1)[:, : info.width] for each in pairs))
        colours = info.colorimetry
        transfers = {
            self._video.VideoTransferFunction.SMPTE2084: "PQ",
            self._video.VideoTransferFunction.ARIB_STD_B67: "HLG",
        }
        if transfer := transfers.get(colours.transfer):
            raise hdr_error(self.label, transfer, "Set the camera to SDR (BT.709).")
        matrices = {self._video.VideoColorMatrix.BT709: "bt709", self._video.VideoColorMatrix.BT2020: "bt2020"}
        is_full = int(colours.range) == 1  # GST_VIDEO_COLOR_RANGE_0_255, a name that Python does not take
        return Picture(layout, planes, matrices.get(colours.matrix, "bt601"), is_full)
