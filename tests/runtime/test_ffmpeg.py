"""Videos that FFmpeg wrote, read as they say: planes, colours, the right way up, and from the middle."""

from __future__ import annotations

import gc
import socket
import struct
import wave
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from videos import av, turned, written

from veca_edge.base.errors import EdgeError
from veca_edge.images.pictures import Layout
from veca_edge.runtime import ffmpeg
from veca_edge.runtime.ffmpeg import opened

COLOURS = ((220, 30, 30), (30, 200, 40), (20, 40, 210), (250, 250, 250))
EXACT = {"options": {"qp": "0"}}


def quarters(height=48, width=64):
    """Red and green above blue and white."""
    made = np.empty((height, width, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        row, column = divmod(number, 2)
        made[row * (height // 2) :][: height - height // 2, column * (width // 2) :] = colour
    return made


def pictures(path):
    with opened(str(path), path.name) as video:
        return [one.picture for one in video.pictures()]


def corners(pixels):
    """The colours in the middles of the quarters, by their places in `COLOURS`."""
    height, width = pixels.shape[:2]
    seen = [pixels[y, x].astype(int) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [int(np.abs(np.array(COLOURS) - one).max(1).argmin()) for one in seen]


# ------------------------------------------------------------------------------------ colours


@pytest.mark.parametrize("is_full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_planes_are_the_decoders_with_the_colours_that_are_stated(matrix, is_full_range, tmp_path):
    path = written(tmp_path / "a.mp4", [quarters()], matrix=matrix, is_full_range=is_full_range, **EXACT)
    (picture,) = pictures(path)
    assert (picture.layout, picture.matrix, picture.is_full_range) == (Layout.I420, matrix, is_full_range)
    np.testing.assert_allclose(picture.rgb[8, 8], COLOURS[0], atol=4)
    np.testing.assert_allclose(picture.rgb[40, 8], COLOURS[2], atol=4)
    assert not any(plane.flags.writeable for plane in picture.planes), "later frames may be made from them"


@pytest.mark.parametrize(("rows", "matrix"), [(480, "bt601"), (576, "bt601"), (720, "bt709")])
def test_what_states_no_colours_is_read_as_players_do(rows, matrix, tmp_path):
    path = written(tmp_path / "a.mp4", [quarters(rows, 64)], matrix=matrix, states=False)
    (picture,) = pictures(path)
    assert (picture.matrix, picture.is_full_range) == (matrix, False)
    np.testing.assert_allclose(picture.rgb[8, 8], COLOURS[0], atol=6)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "layout", "is_full_range"),
    [
        ("a.avi", "rawvideo", "yuyv422", "yuyv", False),
        ("a.avi", "rawvideo", "bgr24", "bgr", False),
        ("a.mov", "png", "rgb24", "rgb", False),
        ("a.avi", "ffv1", "bgr0", "rgb", False),
        ("a.avi", "mjpeg", "yuvj420p", "i420", True),
        *(
            ("a.mp4", "libx264", pixels, "i420" if pixels == "yuv420p10le" else "i444", is_full_range)
            for pixels in ("yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le")
            for is_full_range in (False, True)
        ),
    ],
)
def test_other_layouts_come_out_in_their_colours(name, codec, pixels, layout, is_full_range, tmp_path):
    path = written(tmp_path / name, [quarters()], codec, pixels, is_full_range=is_full_range)
    (picture,) = pictures(path)
    assert picture.layout == layout
    np.testing.assert_allclose(picture.rgb[8, 8], COLOURS[0], atol=6)
    np.testing.assert_allclose(picture.rgb[8, 56], COLOURS[1], atol=6)
    np.testing.assert_allclose(picture.rgb[40, 8], COLOURS[2], atol=6)


def test_deep_pictures_lose_their_last_bits_and_nothing_else(tmp_path):
    ramp = np.repeat(np.linspace(20, 235, 64).astype(np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    for is_full_range in (False, True):
        eight, ten = (
            pictures(written(tmp_path / "a.mkv", [ramp], "ffv1", pixels, is_full_range=is_full_range))[0]
            for pixels in ("yuv420p", "yuv420p10le")
        )
        assert eight.is_full_range == ten.is_full_range == is_full_range
        assert np.abs(eight.planes[0].astype(int) - ten.planes[0]).max() <= 1


@pytest.mark.parametrize(("transfer", "said"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(transfer, said, tmp_path):
    path = written(tmp_path / "phone.mp4", [quarters()], matrix="bt2020", transfer=transfer)
    with pytest.raises(EdgeError, match=rf"phone\.mp4 has HDR colours \({said}\).*\n.*tonemap"):
        pictures(path)


def test_colours_that_are_not_read_are_refused(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = 8
        container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(EdgeError, match=r"matrix coefficients 8 of ITU-T H\.273"):
        pictures(path)


# -------------------------------------------------------------------------------- the right way up

# What a player does to a picture (ISO/IEC 14496-12) as signs of a, b, c, d, and which quarter is then seen where.
TURNS = {
    (1, 0, 0, 1): [0, 1, 2, 3],
    (-1, 0, 0, 1): [1, 0, 3, 2],
    (1, 0, 0, -1): [2, 3, 0, 1],
    (-1, 0, 0, -1): [3, 2, 1, 0],
    (0, 1, 1, 0): [0, 2, 1, 3],
    (0, 1, -1, 0): [2, 0, 3, 1],
    (0, -1, 1, 0): [1, 3, 0, 2],
    (0, -1, -1, 0): [3, 1, 2, 0],
}


@pytest.mark.parametrize("signs", TURNS, ids=str)
@pytest.mark.parametrize(
    ("size", "pixels", "layout"),
    [((48, 64), "yuv420p", "i420"), ((48, 64), "yuv444p", "i444"), ((45, 63), "yuv444p", "i444")],
)
def test_pictures_stand_upright(signs, size, pixels, layout, tmp_path):
    path = turned(written(tmp_path / "a.mp4", [quarters(*size)] * 2, pixels=pixels), signs)
    for picture in pictures(path):
        assert picture.layout == layout
        assert picture.size == (size if signs[0] else size[::-1])
        assert corners(picture.rgb) == TURNS[signs]


def test_an_odd_picture_is_turned_with_its_chroma(tmp_path):
    path = written(tmp_path / "a.mkv", [quarters(45, 63)], "ffv1")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p"
        assert ffmpeg._taken_as(frame, is_turned=True) == "yuv444p"
        assert ffmpeg._taken_as(frame, is_turned=False) == "yuv420p"
    (picture,) = pictures(path)
    assert (picture.layout, picture.size) == (Layout.I420, (45, 63))
    assert corners(picture.rgb) == [0, 1, 2, 3]


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def test_rows_from_the_last_to_the_first(tmp_path):
    """Uncompressed AVI files as Windows writes them; OpenCV's decoder writes where it must not."""
    height, width, count = 46, 62, 3
    rows = [row.tobytes() + b"\0" * (-3 * width % 4) for row in quarters(height, width)[::-1, :, ::-1]]
    frame = b"".join(rows)
    main = struct.pack("<14I", 40_000, 0, 0, 0x10, count, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = b"vidsDIB " + struct.pack("<IHHIIIIIIIIHHHH", 0, 0, 0, 0, 1, 25, 0, count, 0, 0, 0, 0, 0, width, height)
    bitmap = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(frame), 0, 0, 0, 0)
    header = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", bitmap))
    places = [4 + number * (len(frame) + 8) for number in range(count)]
    index = b"".join(b"00db" + struct.pack("<III", 0x10, place, len(frame)) for place in places)
    body = b"AVI " + chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + header)
    body += chunk(b"LIST", b"movi" + chunk(b"00db", frame) * count) + chunk(b"idx1", index)
    path = tmp_path / "a.avi"
    path.write_bytes(chunk(b"RIFF", body))
    found = pictures(path)
    assert len(found) == count
    for picture in found:
        np.testing.assert_array_equal(picture.rgb, quarters(height, width))


# ------------------------------------------------------------------------------------------ memory


def test_a_decoder_fills_its_memory_again(tmp_path):
    """Frames are let go as soon as nobody looks at them, not when Python next collects what is tied to itself."""
    path = turned(written(tmp_path / "a.mp4", [quarters()] * 60), (0, 1, -1, 0))
    written(tmp_path / "b.mp4", [quarters()] * 60)
    for name in (path, tmp_path / "b.mp4"):
        assert len(places(name)) < 60


def places(path):
    """Where in memory the planes of a video's frames are, one after the other."""
    made, real = [], ffmpeg._plane

    def plane(plane, count):
        made.append(plane.buffer_ptr)
        return real(plane, count)

    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch, opened(str(path), path.name) as video:
            patch.setattr(ffmpeg, "_plane", plane)
            assert sum(1 for _ in video.pictures()) == 60
    finally:
        gc.enable()
    assert len(made) == 180
    return set(made)


def test_pictures_that_are_kept_stay_as_they_are(tmp_path):
    shades = [np.full((48, 64, 3), 4 * number, np.uint8) for number in range(50)]
    found = pictures(written(tmp_path / "a.mp4", shades, **EXACT))
    kept = [picture.planes[0][10:20] for picture in found]
    del found
    levels = [float(plane.mean()) for plane in kept]
    assert all(one < other for one, other in pairwise(levels))


# ----------------------------------------------------------------------------------- from the middle


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.avi", "mpeg4"), ("a.mp4", "libx265")],
)
def test_from_the_middle_it_is_what_it_is_from_the_begin(name, codec, tmp_path):
    """Where pictures are stored in another order than they are shown in, and where a container has no index."""
    shades = [np.full((48, 64, 3), 2 * number, np.uint8) for number in range(100)]
    options = {"g": "25", "bf": "3"} if codec == "libx264" else {"x265-params": "log-level=none:keyint=25"}
    path = written(tmp_path / name, shades, codec, options=options if codec != "mpeg4" else {"g": "25"})
    with opened(str(path), name) as video:
        times = video.times()
    with opened(str(path), name) as video:
        whole = list(video.pictures())
    assert len(times) == 100
    assert [one.pts for one in whole] == times
    assert times == sorted(times)
    with opened(str(path), name) as video:
        for number in (0, 1, 24, 25, 26, 60, 99, 3):
            part = list(video.pictures_from(times[number]))
            assert [one.pts for one in part] == times[number:]
            np.testing.assert_array_equal(part[0].picture.planes[0], whole[number].picture.planes[0])


# --------------------------------------------------------------------------------------- what is none


def test_what_is_no_video(tmp_path, capfd):
    (tmp_path / "noise.mp4").write_bytes(b"no video at all" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("noise.mp4", "empty.mp4"):
        with pytest.raises(EdgeError, match=rf"{name} is not a video that FFmpeg can decode \(.*\n.*ffmpeg -i"):
            pictures(tmp_path / name)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1000))
    with pytest.raises(EdgeError, match=r"sound\.wav has no pictures"):
        pictures(tmp_path / "sound.wav")
    assert capfd.readouterr() == ("", ""), "FFmpeg has nothing to add"


def test_a_video_that_was_cut_off_says_so(tmp_path, capfd):
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(20)]
    path = written(tmp_path / "a.mp4", frames)
    whole = path.read_bytes()
    # The index has to come first, or nothing at all can be read of what is left.
    with av.open(str(path)) as read, av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as made:
        stream = made.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = stream
                made.mux(packet)
    (tmp_path / "b.mp4").write_bytes((tmp_path / "b.mp4").read_bytes()[: len(whole) // 2])
    seen = []
    with (
        opened(str(tmp_path / "b.mp4"), "b.mp4") as video,
        pytest.raises(EdgeError, match=r"b\.mp4.*after \d+") as caught,
    ):
        seen.extend(video.pictures())
    assert f"after {len(seen)} frames" in caught.value.message
    assert 0 < len(seen) < 20
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.ts", "a.avi"])
def test_a_container_that_ends_early_without_a_word_says_so(name, tmp_path, capfd):
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(60)]
    path = written(tmp_path / name, frames, "libvpx-vp9" if name == "a.webm" else "libx264", rate=15)
    assert len(pictures(path)) == 60
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    said = r"is damaged after \d\d frames|lasts 4\.0 s, but ends after 2\.\d s and 3\d frames"
    with pytest.raises(EdgeError, match=said):
        pictures(path)
    assert capfd.readouterr() == ("", "")


def test_damage_that_a_decoder_gets_over_says_so(tmp_path):
    random = np.random.default_rng(0)
    path = written(tmp_path / "a.mkv", [random.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(60)], rate=15)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 2000] = random.bytes(2000)
    path.write_bytes(damaged)
    with pytest.raises(EdgeError, match=r"damaged"):
        pictures(path)


def test_pictures_that_stand_for_long_and_sound_that_lasts_longer_are_whole(tmp_path):
    """A slide every three seconds, the last one of which is left standing, and sound to the end."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(quarters(), "rgb24")
            frame.pts = 75 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for second in range(12):
            heard = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
            heard.sample_rate, heard.pts = 8000, 8000 * second
            container.mux(sound.encode(heard))
        container.mux(sound.encode(None))
    assert len(pictures(path)) == 3


@pytest.mark.parametrize(("codec", "pixels"), [("ffv1", "gray"), ("ffv1", "gray10le"), ("libx265", "gray")])
def test_grey_has_the_range_that_it_states(codec, pixels, tmp_path):
    """Thermal and infrared cameras record luma alone. What states no range uses all of it, as players have it."""
    from av.video.reformatter import VideoReformatter

    luma = np.repeat(np.array([16, 126, 235], np.uint8), 32)[None].repeat(64, 0)
    for stated, wanted in ((1, (0, 128, 255)), (2, (16, 126, 235)), (0, (16, 126, 235))):
        path = tmp_path / f"{stated}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options={"x265-params": "qp=0:log-level=0"})
            stream.height, stream.width, stream.pix_fmt = *luma.shape, pixels
            if stated:
                stream.codec_context.color_range = stated
            frame = av.VideoFrame.from_ndarray(luma, "gray")
            container.mux(stream.encode(VideoReformatter().reformat(frame, format=pixels)))
            container.mux(stream.encode(None))
        (picture,) = pictures(path)
        if codec == "libx265" and not stated:
            continue  # it states the limited one by itself
        np.testing.assert_allclose(picture.rgb[32, 16::32], np.array(wanted)[:, None].repeat(3, 1), atol=1)


def test_a_file_fetches_nothing_from_the_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        (tmp_path / "list.m3u8").write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n"
        )
        (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {address}\n")
        for name in ("list.m3u8", "list.mp4"):
            with pytest.raises(EdgeError, match="list"):
                pictures(tmp_path / name)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_video_with_more_pixels_than_are_decoded(tmp_path, monkeypatch):
    path = written(tmp_path / "a.mp4", [quarters()] * 2)
    monkeypatch.setattr(ffmpeg, "MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(EdgeError, match=r"a\.mp4 has 64 x 48 pixels; at most 3,071 are decoded"):
        pictures(path)
    monkeypatch.setattr(ffmpeg, "MAX_PIXELS", 48 * 64)
    assert len(pictures(path)) == 2
    with opened(str(path), "a.mp4") as video:
        assert video._stream.codec_context.options == {"max_pixels": "3072"}


def test_a_decoder_leaves_half_of_the_cpus_to_others(tmp_path, monkeypatch):
    path = written(tmp_path / "a.mp4", [quarters()])
    monkeypatch.setattr(ffmpeg, "usable_cpu_count", lambda: 8)
    with opened(str(path), "a.mp4") as video:
        assert video._stream.thread_count == 4
        assert sum(1 for _ in video.pictures()) == 1


def test_turning_is_pillows():
    plane = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for name in filter(None, ffmpeg.UPRIGHT.values()):
        wanted = np.asarray(Image.fromarray(plane).transpose(Image.Transpose[name]))
        np.testing.assert_array_equal(ffmpeg._turned(plane, name), wanted)
