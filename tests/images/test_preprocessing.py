"""Decoding, cropping and resizing images of every awkward kind."""

import json
import os
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.images.preprocessing import Preprocessing, as_input, load_pixels, normalised, prepare

SIZE = ImageSize(16, 16)
ALL_KINDS = [
    Preprocessing(),
    Preprocessing("crop", 0.875),
    Preprocessing("short-side"),
    Preprocessing("short-side", 0.889),
    Preprocessing("letterbox"),
    Preprocessing("stretch"),
    Preprocessing(interpolation="bicubic-antialiased"),
]


def save(path, array, mode=None, **options):
    Image.fromarray(np.asarray(array, np.uint8), mode).save(path, **options)
    return path


def test_exif_orientation_is_applied(tmp_path):
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = save(tmp_path / "turned.png", np.rot90(upright), exif=exif)
    np.testing.assert_array_equal(prepare(path, SIZE), upright)


def test_alpha_is_composited_on_black(tmp_path):
    pixels = np.full((16, 16, 4), 200, np.uint8)
    pixels[..., 3] = 0
    assert (prepare(save(tmp_path / "rgba.png", pixels), SIZE) == 0).all()
    pixels[..., 3] = 255
    assert (prepare(save(tmp_path / "opaque.png", pixels), SIZE) == 200).all()
    pixels[..., 3] = 128
    assert abs(prepare(save(tmp_path / "half.png", pixels), SIZE).astype(int) - 100).max() <= 1
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([255, 255, 255, 90, 90, 90])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert (prepare(tmp_path / "palette.png", SIZE) == 0).all()


def test_grey_cmyk_and_16_bit(tmp_path):
    save(tmp_path / "grey.png", np.full((16, 16), 77))
    Image.new("CMYK", (16, 16), (0, 0, 0, 155)).save(tmp_path / "cmyk.jpg", quality=100)
    Image.fromarray(np.full((16, 16), 77 * 257, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((16, 16), 77 * 257, np.uint16)).save(tmp_path / "deep.tif")
    assert (prepare(tmp_path / "grey.png", SIZE) == 77).all()
    assert (prepare(tmp_path / "deep.png", SIZE) == 77).all()
    assert (prepare(tmp_path / "deep.tif", SIZE) == 77).all()
    assert abs(prepare(tmp_path / "cmyk.jpg", SIZE).astype(int) - 100).max() <= 2
    for name, value in (("negative.tif", -1), ("deeper.tif", 65536)):
        Image.fromarray(np.full((16, 16), value, np.int32)).save(tmp_path / name)
        with pytest.raises(EdgeError, match="32-bit integer pixels have no defined white"):
            prepare(tmp_path / name, SIZE)


def test_crops_the_centre_and_keeps_the_aspect(tmp_path):
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255
    assert (prepare(save(tmp_path / "wide.png", wide), SIZE) == 255).all()
    assert prepare(tmp_path / "wide.png", ImageSize(16, 48)).mean() == pytest.approx(85, abs=2)
    long = np.full((2, 30000, 3), 9, np.uint8)
    assert prepare(save(tmp_path / "long.png", long), ImageSize(256, 256)).shape == (256, 256, 3)


def test_downscaling_is_antialiased(tmp_path):
    checkers = np.indices((128, 128)).sum(0)[..., None].repeat(3, 2) % 2 * 255
    assert abs(prepare(save(tmp_path / "checkers.png", checkers), SIZE).astype(int) - 127).max() < 16


def test_preprocessing_survives_json_and_refuses_others():
    made = Preprocessing()
    text = json.dumps(made.to_json())
    assert Preprocessing.from_json(json.loads(text)) == made
    assert "bicubic" in made.description
    with pytest.raises(EdgeError, match="crop = none"):
        Preprocessing.from_json({**json.loads(text), "crop": "none"})
    for changed in ({"crop_ratio": "0.5"}, {"crop_ratio": True}, {"crop_ratio": float("nan")}, {"resize": ["crop"]}):
        with pytest.raises(EdgeError):
            Preprocessing.from_json({**json.loads(text), **changed})
    without = {key: value for key, value in json.loads(text).items() if key != "padding"}
    with pytest.raises(EdgeError, match="padding = None"):
        Preprocessing.from_json(without)


@pytest.mark.parametrize("how", ALL_KINDS, ids=lambda how: f"{how.resize}-{how.crop_ratio}-{how.interpolation}")
def test_every_kind_survives_json_and_says_what_it_does(how):
    assert Preprocessing.from_json(json.loads(json.dumps(how.to_json()))) == how
    assert how.metadata["resize"] == how.resize
    assert Preprocessing.from_metadata(how.metadata) == how
    assert Preprocessing.from_metadata({}) == Preprocessing(interpolation="bicubic-antialiased")
    with pytest.raises(EdgeError, match="no number"):
        Preprocessing.from_metadata({"crop_ratio": "half"})
    assert len({each.description for each in ALL_KINDS}) == len(ALL_KINDS)
    words = {
        "crop": "largest centred box",
        "short-side": "just covers the model's input",
        "letterbox": "just fits into the model's input",
        "stretch": "whatever its aspect ratio",
    }
    assert [kind for kind, said in words.items() if said in how.description] == [how.resize]
    assert (f"{how.crop_ratio:g} of the" in how.description) == (how.resize == "crop" and how.crop_ratio < 1)
    assert (f"over {how.crop_ratio:g}, " in how.description) == (how.resize == "short-side" and how.crop_ratio < 1)
    assert ("resizing to cover and cropping" in how.description) == (how.resize == "crop" and how.crop_ratio == 1)
    assert ("halve it" in how.description) == (how.interpolation == "halved-bicubic")


def test_manifests_of_version_0_1_mean_its_one_way(data):
    written = json.loads((data / "version1/manifest.json").read_text())["preprocessing"]
    assert "crop_ratio" not in written
    assert Preprocessing.from_json(written) == Preprocessing(interpolation="bicubic-antialiased")
    with pytest.raises(EdgeError, match="resize = nearest"):
        Preprocessing.from_json({**written, "resize": "nearest"})


def test_bad_kinds_and_ratios_are_refused():
    with pytest.raises(EdgeError, match=r"'fit'.*\n.*crop, short-side, letterbox, stretch"):
        Preprocessing("fit")
    for ratio in (0, -1, 1.01, float("nan"), "half", True):
        with pytest.raises(EdgeError, match="impossible"):
            Preprocessing("crop", ratio)
    for kind in ("letterbox", "stretch"):
        with pytest.raises(EdgeError, match="whole frame"):
            Preprocessing(kind, 0.875)


def test_normalised():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    out = normalised(frames)
    assert out.shape == (2, 3, 3, 4)
    assert out.dtype == np.float32
    expected = (frames / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(out, expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_every_form_of_a_models_input_fills_what_it_is_given():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    assert as_input(frames, "image") is frames
    planes = frames.transpose(0, 3, 1, 2).astype(np.float32)
    for form, expected in (("planar", planes), ("tensor", normalised(frames))):
        room = np.full(planes.shape, np.nan, np.float32)
        assert as_input(frames, form, room) is room
        np.testing.assert_array_equal(room, expected)
        np.testing.assert_array_equal(as_input(frames, form), expected)


def png_header(width, height, depth=8, colour=2):
    """A PNG file that claims a size, with one empty chunk of pixels: a few dozen bytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 178_000_000), (13_000, 13_000), (8_001, 8_001), (32_769, 1), (1, 32_769), (16_385, 1), (2**31 - 1, 2**31 - 1)],
)
def test_a_size_is_checked_before_anything_is_decoded(tmp_path, width, height):
    """1 x 178,000,000 pixels, in 177 bytes, once took 5.5 GB and 32 s."""
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(width, height))
    prepare_small(tmp_path)  # Pillow's own modules are loaded
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(EdgeError, match="pixels") as raised:
        prepare(path, SIZE)
    assert time.process_time() - began < 0.5
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
    assert "\n" not in raised.value.message


def prepare_small(tmp_path):
    prepare(save(tmp_path / "small.png", np.zeros((16, 16, 3))), SIZE)


def test_large_photographs_are_decoded(tmp_path):
    Image.new("L", (8000, 8000), 7).save(tmp_path / "large.png")
    assert (prepare(tmp_path / "large.png", SIZE) == 7).all()


def test_strips_make_the_same_picture(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 4), np.uint8)
    path = save(tmp_path / "rgba.png", pixels)
    whole = load_pixels(path)
    monkeypatch.setattr("veca_edge.images.preprocessing.STRIP_PIXELS", 7 * 30)
    np.testing.assert_array_equal(load_pixels(path), whole)
    assert whole.shape == (40, 30, 3)


def test_what_is_not_a_regular_file_or_not_of_a_known_kind_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    for name, why in (("a.png", "named pipe"), ("b.png", "device"), ("c.png", "known kind"), ("d.png", "no such file")):
        with pytest.raises(EdgeError, match=why):
            prepare(tmp_path / name, SIZE)


@pytest.mark.parametrize(
    "given",
    [np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8, 3), np.uint8), 5],
)
def test_prepare_refuses_what_is_not_a_picture(given):
    with pytest.raises(EdgeError, match="picture"):
        prepare(given, SIZE)


def test_prepare_of_a_file_and_of_its_pixels_agree(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    path = save(tmp_path / "a.png", pixels)
    made = prepare(path, ImageSize(16, 24))
    assert (made.shape, made.dtype) == ((16, 24, 3), np.uint8)
    np.testing.assert_array_equal(made, prepare(pixels, (16, 24)))
    np.testing.assert_array_equal(prepare(pixels[:, ::2], 16), prepare(pixels[:, ::2].copy(), ImageSize(16, 16)))
