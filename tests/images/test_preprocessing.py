"""Decoding, cropping and resizing images of every awkward kind."""

import json

import numpy as np
import pytest
from PIL import Image

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.images.preprocessing import Preprocessing, normalised, prepare

SIZE = ImageSize(16, 16)


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


def test_normalised():
    frames = np.full((2, 3, 4, 3), 255, np.uint8)
    out = normalised(frames)
    assert out.shape == (2, 3, 3, 4)
    assert out.dtype == np.float32
    assert out[0, 0, 0, 0] == pytest.approx((1 - 0.485) / 0.229)
