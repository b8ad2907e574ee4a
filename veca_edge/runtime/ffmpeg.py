"""Video files and network streams, read and written by FFmpeg through PyAV (extra `camera`).

Pictures that are read are the decoder's own planes wherever `Layout` has a name for them, with the matrix and the range
that the file states for its colours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base.cpu_features import usable_cpu_count
from ..base.errors import EdgeError, MissingDependency
from ..base.text import counted
from ..images.pictures import Layout, Picture, plane_in, plane_shapes
from ..images.preprocessing import MAX_PIXELS
from .capture import Captured, hdr_error

# How long a stream may take to answer, and may then give nothing, in seconds.
ANSWER_S, SILENCE_S = 10.0, 10.0
CONVERT = "Check that it plays, or convert it: ffmpeg -i FILE -c:v libx264 -pix_fmt yuv420p video.mp4"
TONE_MAP = (
    "ffmpeg -i FILE -vf zscale=t=linear,tonemap=hable,zscale=t=bt709:m=bt709:p=bt709:r=tv,format=yuv420p video.mp4"
)

# Pixel formats that are taken as they are.
LAYOUTS = {
    "yuv420p": Layout.I420,
    "yuvj420p": Layout.I420,
    "nv12": Layout.NV12,
    "yuv444p": Layout.I444,
    "yuvj444p": Layout.I444,
    "yuyv422": Layout.YUYV,
    "rgb24": Layout.RGB,
    "bgr24": Layout.BGR,
}
# Luma alone of whatever depth, to which neutral chroma is added.
GREY = "gray"
# Deeper samples of the first, which lose their last bits. Other luma and chroma becomes `yuv444p`, the rest `rgb24`.
DEEPER = ("yuv420p9le", "yuv420p10le", "yuv420p12le", "yuv420p14le", "yuv420p16le", "p010le", "p012le", "p016le")
# Numbers of matrix coefficients in ITU-T H.273, which FFmpeg has too; the next three say nothing of luma and chroma.
MATRICES = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020"}
WITHOUT_MATRIX, UNSTATED, RESERVED = 0, 2, 3
H273_BT709 = 1
_MICROSECONDS = 1_000_000
# Containers round, and sound need not end with the pictures: a file that ends by no more than this early is whole.
SHORT_S = 1.0
# FFmpeg's numbers of ranges.
LIMITED_RANGE, FULL_RANGE = 1, 2
# Transfer characteristics of the same standard.
HDR = {16: "PQ", 18: "HLG"}
# What states no matrix is high definition with so many rows, as players and GStreamer have it.
HD_ROWS = 577
# What brings a picture upright, by the signs of a display matrix [[a, b], [c, d]] (ISO/IEC 14496-12, 8.3.2); names of
# Pillow's `Transpose`.
UPRIGHT = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): "FLIP_LEFT_RIGHT",
    (1, 0, 0, -1): "FLIP_TOP_BOTTOM",
    (-1, 0, 0, -1): "ROTATE_180",
    (0, 1, 1, 0): "TRANSPOSE",
    (0, 1, -1, 0): "ROTATE_270",
    (0, -1, 1, 0): "ROTATE_90",
    (0, -1, -1, 0): "TRANSVERSE",
}


def import_av(purpose: str) -> Any:
    try:
        import av
        import av.error
        import av.video.reformatter
    except ImportError:
        raise MissingDependency("av", "camera", purpose) from None
    return av


def _threads() -> int:
    """One for each CPU, as FFmpeg likes it, would hold up the model."""
    return max(1, usable_cpu_count() // 2)


class TimedPicture(NamedTuple):
    """A picture, and when it is shown in units of its video's time base; None where the video does not say."""

    picture: Picture
    pts: int | None


class _End:
    """Where what was read of a file ends, in seconds; `longest_s` is between two of its pictures."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.longest_s = 0.0
        self._last_picture: float | None = None

    def add(self, packet: Any, is_picture: bool) -> None:
        if packet.dts is None or packet.time_base is None:
            return
        begins = float(packet.dts * packet.time_base)
        ends = begins + float((packet.duration or 0) * packet.time_base)
        self.at = ends if self.at is None else max(self.at, ends)
        if is_picture:
            if self._last_picture is not None:
                self.longest_s = max(self.longest_s, begins - self._last_picture)
            self._last_picture = begins


class Video:
    """A video or a stream, opened; see `opened`.

    Attributes:
        label: what messages call it.
        rate: frames a second as it states them, or None.
    """

    def __init__(self, av: Any, container: Any, stream: Any, label: str, is_file: bool = True):
        self._av, self._container, self._stream, self.label = av, container, stream, label
        self._is_file = is_file
        self._turned: str | None = None
        self._has_begun = False
        self._converter = av.video.reformatter.VideoReformatter()
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        self.rate = rate if 0 < rate < 1000 else None

    def pictures(self, since: int | None = None) -> Iterator[TimedPicture]:
        """From where it is to its end.

        Args:
            since: what is shown before it may be damaged: what it was made from came before it was entered.

        Raises:
            EdgeError: it does not decode; a file is damaged, as far as FFmpeg says so, or ends before it says it does.
        """
        count, end = 0, _End()
        # Of a file what is beside the pictures, too: sound may last longer than they do.
        packets = self._container.demux() if self._is_file else self._container.demux(self._stream)
        with self._named(lambda: f"{self.label} can't be decoded after {counted(count, 'frame')}"):
            for packet in packets:
                end.add(packet, packet.stream is self._stream)
                if packet.stream is not self._stream:
                    continue
                for frame in packet.decode():
                    is_early = since is not None and frame.pts is not None and frame.pts < since
                    if self._is_file and not is_early and (packet.is_corrupt or frame.is_corrupt):
                        raise EdgeError(f"{self.label} is damaged after {counted(count, 'frame')}.", CONVERT)
                    yield TimedPicture(self._picture(frame), frame.pts)
                    count += 1
        if self._is_file:
            self._check_end(end, count)

    def _check_end(self, end: _End, count: int) -> None:
        """Raises `EdgeError` where a file is shorter than its header says: containers end early without a word."""
        stated, begin = self._container.duration, self._container.start_time or 0
        if stated is None or end.at is None:
            return
        stated_s, there_s = stated / _MICROSECONDS, end.at - begin / _MICROSECONDS
        if stated_s - there_s > max(SHORT_S, 1.5 * end.longest_s):
            raise EdgeError(
                f"{self.label} says that it lasts {stated_s:.1f} s, but ends after {there_s:.1f} s and "
                f"{counted(count, 'frame')}: it was cut off, or is damaged.",
                CONVERT,
            )

    def seconds(self, pts: int | None) -> float | None:
        """When a picture is shown, from the first on; None where the video does not say."""
        if pts is None:
            return None
        return float((pts - (self._stream.start_time or 0)) * self._stream.time_base)

    def pictures_from(self, pts: int) -> Iterator[TimedPicture]:
        """From the picture that is shown at `pts` on. Raises as `pictures`."""
        begin, second = self._stream.start_time or 0, max(1, round(1 / self._stream.time_base))
        at, back = pts, second
        while True:
            with self._named(lambda: f"{self.label} can't be entered in the middle"):
                self._container.seek(at, stream=self._stream)
            pictures = self.pictures(since=pts)
            first = next(pictures, None)
            if at < begin - second or (first is not None and first.pts is not None and first.pts <= pts):
                break
            # Containers may enter behind what is asked for: pictures are not stored in the order they are shown in.
            at, back = at - back, 2 * back
        if first is not None:
            yield from (one for one in chain([first], pictures) if one.pts is not None and one.pts >= pts)

    def times(self) -> list[int | None]:
        """When its pictures are shown, ascending, told without decoding; all None where one of them does not say.

        It has been read to its end then.
        """
        with self._named(lambda: f"{self.label} can't be read"):
            packets = self._container.demux(self._stream)
            found = [packet.pts for packet in packets if packet.size and not packet.is_discard]
        return [None] * len(found) if None in found else sorted(found)

    @contextmanager
    def _named(self, problem: Callable[[], str]) -> Iterator[None]:
        try:
            yield
        except self._av.error.FFmpegError as error:
            raise EdgeError(f"{problem()} ({reason(error)}).", CONVERT) from error

    def _picture(self, frame: Any) -> Picture:
        matrix, is_full_range = self._colours(frame)
        if not self._has_begun:
            # Told once: PyAV ties a frame that was asked for its side data to itself, which keeps it for long.
            self._turned, self._has_begun = _upright(frame), True
        turned = self._turned
        wanted = _taken_as(frame, turned is not None)
        if wanted != frame.format.name:
            frame = self._converted(frame, wanted, is_full_range)
        if wanted == GREY:
            luma = _plane(frame.planes[0], (frame.height, frame.width))
            luma = _turned(luma, turned) if turned else luma
            chroma = np.full([(side + 1) // 2 for side in luma.shape], 128, np.uint8)
            return Picture(Layout.I420, (luma, chroma, chroma), matrix, is_full_range)
        shapes = plane_shapes(LAYOUTS[wanted], frame.height, frame.width)
        planes = (_plane(plane, shape) for plane, shape in zip(frame.planes, shapes, strict=True))
        upright = tuple(_turned(plane, turned) if turned else plane for plane in planes)
        return Picture(LAYOUTS[wanted], upright, matrix, is_full_range)

    def _converted(self, frame: Any, wanted: str, is_full_range: bool) -> Any:
        """By swscale, which is asked for no other matrix and no other range than there is."""
        stated = FULL_RANGE if is_full_range else LIMITED_RANGE
        made = FULL_RANGE if wanted in ("rgb24", "bgr24") else stated
        return self._converter.reformat(frame, format=wanted, src_color_range=stated, dst_color_range=made)

    def _colours(self, frame: Any) -> tuple[str, bool]:
        """Their matrix, and whether they have the full range. Raises `EdgeError` for those that are not read."""
        if transfer := HDR.get(frame.color_trc):
            raise hdr_error(self.label, transfer, f"Map them to SDR first: {TONE_MAP}")
        is_full = frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")
        if _is_grey(frame):
            is_full = frame.color_range != LIMITED_RANGE  # as players have it, unlike luma beside chroma
        if frame.colorspace in MATRICES:
            return MATRICES[frame.colorspace], is_full
        if frame.colorspace in (UNSTATED, WITHOUT_MATRIX, RESERVED):
            return "bt709" if frame.height >= HD_ROWS else "bt601", is_full
        raise EdgeError(
            f"{self.label} states colours that are not read (matrix coefficients {frame.colorspace} of ITU-T H.273).",
            CONVERT,
        )


def _upright(frame: Any) -> str | None:
    """How its pixels have to be turned; None where they stand upright, or at an angle that is no right one."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = np.sign(np.frombuffer(bytes(data), np.int32)[:5]).tolist()
    return UPRIGHT.get((a, b, c, d))


def _is_grey(frame: Any) -> bool:
    return len(frame.format.components) < 3 and not frame.format.is_rgb


def _taken_as(frame: Any, is_turned: bool) -> str:
    """The pixel format, one of `LAYOUTS` or `GREY`, in which its planes are looked at."""
    name = frame.format.name
    other = "rgb24" if frame.format.is_rgb or _is_grey(frame) else "yuv444p"
    if any(plane.line_size < 0 for plane in frame.planes):
        return other if other != name else "bgr24"  # from the last row to the first, as in uncompressed AVI files
    if _is_grey(frame):
        return GREY
    wanted = "yuv420p" if name in DEEPER else name
    layout, is_odd = LAYOUTS.get(wanted), bool(frame.width % 2 or frame.height % 2)
    if layout is None or (layout == Layout.YUYV and (is_odd or is_turned)):
        return other  # pairs of pixels can't be turned
    # Chroma of squares lies elsewhere after an odd picture was turned.
    return other if is_turned and is_odd and layout in (Layout.I420, Layout.NV12) else wanted


def _plane(plane: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A plane of a decoded frame where it lies: later frames may be made from it."""
    return plane_in(np.frombuffer(plane, np.uint8), shape, plane.line_size)


def _turned(plane: np.ndarray, how: str) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).transpose(Image.Transpose[how]))


@contextmanager
def opened(address: str, label: str, is_file: bool = True) -> Iterator[Video]:
    """A video file or a network stream.

    Raises:
        EdgeError: it is none, or nobody answers.
        MissingDependency: PyAV is not installed.
    """
    av = import_av("Reading a video")
    # A file that names others gets none from the network. Pictures are looked at as soon as it is opened.
    options = {"max_pixels": str(MAX_PIXELS)}
    options |= {"protocol_whitelist": "file"} if is_file else {"rtsp_transport": "tcp", "fflags": "nobuffer"}
    try:
        container = av.open(
            f"file:{address}" if is_file else address,
            options=options,
            metadata_errors="replace",
            timeout=None if is_file else (ANSWER_S, SILENCE_S),
        )
    except av.error.FFmpegError as error:
        if is_file:
            raise EdgeError(f"{label} is not a video that FFmpeg can decode ({reason(error)}).", CONVERT) from error
        raise EdgeError(
            f"{label} could not be opened ({reason(error)}).", "Check the address, and that the camera is on."
        ) from error
    with container:
        try:
            stream = container.streams.best("video")
        except IndexError:  # PyAV knows none that turned up behind the header
            stream = None
        if stream is None or stream.codec_context is None:
            what = "has no pictures" if stream is None else "has pictures of a kind that this FFmpeg can't decode"
            raise EdgeError(f"{label} {what}.", CONVERT)
        context = stream.codec_context
        if context.width * context.height > MAX_PIXELS:
            raise EdgeError(
                f"{label} has {context.width} x {context.height} pixels; at most {MAX_PIXELS:,} are decoded.", CONVERT
            )
        context.options = {"max_pixels": str(MAX_PIXELS)}  # in case that its frames are not what its header says
        stream.thread_count = _threads()
        # Threads that take a frame each keep some back, which a camera's are too young for.
        stream.thread_type = "AUTO" if is_file else "SLICE"
        yield Video(av, container, stream, label, is_file)


def captured_from(
    address: str, label: str, is_ending: Callable[[], bool], is_file: bool = True
) -> Generator[Captured, None, None]:
    """The pictures of a video or a stream until its end. Raises as `opened` and `Video.pictures`."""
    with opened(address, label, is_file) as video:
        for picture, pts in video.pictures():
            yield Captured(picture, time.perf_counter(), video.rate, video.seconds(pts) if is_file else None)
            if is_ending():
                return


def reason(error: Any) -> str:
    """What FFmpeg says, in words."""
    return str(error.strerror or type(error).__name__).rstrip(".")


# ------------------------------------------------------------------------------------------ writing

# The codec that browsers, phones and desktops all play, at the least of a processor that it can do with: a model runs
# beside it. Quality is that of the other presets, files are twice as large.
CODEC, CODEC_OPTIONS = "libx264", {"preset": "ultrafast", "crf": "23"}
TIME_BASE = 90_000


@contextmanager
def written_to(path: Path, rate: float) -> Iterator[Callable[[np.ndarray, float], None]]:
    """An `.mp4` of H.264 in BT.709, as large as its first frame.

    Args:
        rate: how many frames a second it states; the last one is shown for as long.

    Yields:
        A function of a frame, uint8 RGB `[h, w, 3]` with even sides, and of when it is shown: seconds, each later than
        the one before.

    Raises:
        EdgeError: FFmpeg can't write such videos.
        MissingDependency: PyAV is not installed.
        OSError: the disk is full, or can't be written.
    """
    av = import_av("Writing an .mp4")
    try:
        av.Codec(CODEC, "w")
    except ValueError:
        raise EdgeError(
            f"This FFmpeg can't write H.264: it has no {CODEC}.", "Run: pip install --force-reinstall av"
        ) from None
    converter = av.video.reformatter.VideoReformatter()
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(CODEC, rate=Fraction(rate).limit_denominator(1001), options=CODEC_OPTIONS)
        context = stream.codec_context
        context.pix_fmt, context.time_base = "yuv420p", Fraction(1, TIME_BASE)
        context.thread_count = _threads()
        context.colorspace = context.color_primaries = context.color_trc = H273_BT709
        context.color_range = LIMITED_RANGE

        def write(pixels: np.ndarray, at: float) -> None:
            if not context.is_open:
                context.height, context.width = pixels.shape[:2]
                container.start_encoding()
            frame = converter.reformat(
                av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), "rgb24"),
                format="yuv420p",
                dst_colorspace=H273_BT709,
                src_color_range=FULL_RANGE,
                dst_color_range=LIMITED_RANGE,
            )
            frame.pts, frame.time_base = round(at * TIME_BASE), Fraction(1, TIME_BASE)
            container.mux(stream.encode(frame))

        yield write
        if context.is_open:
            container.mux(stream.encode(None))
