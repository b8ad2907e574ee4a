"""Finding, decoding and labelling images, on files of every awkward kind."""

import json

import numpy as np
import pytest
from PIL import Image

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.demo import demo_calibration
from veca_edge.images.preprocessing import (
    Preprocessing,
    class_labels,
    find_images,
    load_frame,
    load_images,
    normalised,
    sample,
)

SIZE = ImageSize(16, 16)


def save(path, array, mode=None, **options):
    Image.fromarray(np.asarray(array, np.uint8), mode).save(path, **options)
    return path


def test_finds_recursively_sorted_and_skips_what_is_hidden(tmp_path):
    for name in ("b/2.PNG", "a/1.jpg", "a/x/3.webp", "a/notes.txt", ".cache/4.jpg", "a/._1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path)] == ["a/1.jpg", "a/x/3.webp", "b/2.PNG"]


def test_an_empty_or_missing_folder_is_an_error(tmp_path):
    with pytest.raises(EdgeError, match="no images"):
        find_images(tmp_path)
    with pytest.raises(EdgeError, match="no directory"):
        find_images(tmp_path / "missing")


def test_sampling_is_seeded_and_keeps_order():
    paths = find_images(demo_calibration())
    chosen = sample(paths, 10, seed=3)
    assert chosen == sample(paths, 10, seed=3) != sample(paths, 10, seed=4)
    assert chosen == sorted(chosen)
    assert len(set(chosen)) == 10
    assert sample(paths, 1000, seed=0) == paths


def test_demo_frames_are_the_pixels_themselves():
    paths = find_images(demo_calibration())[:8]
    images = load_images(paths, ImageSize(32, 32))
    for frame, path in zip(images.frames, paths, strict=True):
        np.testing.assert_array_equal(frame, np.asarray(Image.open(path).convert("RGB")))


def test_exif_orientation_is_applied(tmp_path):
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = save(tmp_path / "turned.png", np.rot90(upright), exif=exif)
    np.testing.assert_array_equal(load_frame(path, SIZE), upright)


def test_alpha_is_composited_on_black(tmp_path):
    pixels = np.full((16, 16, 4), 200, np.uint8)
    pixels[..., 3] = 0
    assert (load_frame(save(tmp_path / "rgba.png", pixels), SIZE) == 0).all()
    pixels[..., 3] = 255
    assert (load_frame(save(tmp_path / "opaque.png", pixels), SIZE) == 200).all()
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([255, 255, 255, 90, 90, 90])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert (load_frame(tmp_path / "palette.png", SIZE) == 0).all()


def test_grey_cmyk_and_16_bit(tmp_path):
    save(tmp_path / "grey.png", np.full((16, 16), 77))
    Image.new("CMYK", (16, 16), (0, 0, 0, 155)).save(tmp_path / "cmyk.jpg", quality=100)
    Image.fromarray(np.full((16, 16), 77 * 257, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((16, 16), 77 * 257, np.uint16)).save(tmp_path / "deep.tif")
    assert (load_frame(tmp_path / "grey.png", SIZE) == 77).all()
    assert (load_frame(tmp_path / "deep.png", SIZE) == 77).all()
    assert (load_frame(tmp_path / "deep.tif", SIZE) == 77).all()
    assert abs(load_frame(tmp_path / "cmyk.jpg", SIZE).astype(int) - 100).max() <= 2


def test_crops_the_centre_and_keeps_the_aspect(tmp_path):
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255
    assert (load_frame(save(tmp_path / "wide.png", wide), SIZE) == 255).all()
    assert load_frame(tmp_path / "wide.png", ImageSize(16, 48)).mean() == pytest.approx(85, abs=2)
    long = np.full((2, 30000, 3), 9, np.uint8)
    assert load_frame(save(tmp_path / "long.png", long), ImageSize(256, 256)).shape == (256, 256, 3)


def test_downscaling_is_antialiased(tmp_path):
    checkers = np.indices((128, 128)).sum(0)[..., None].repeat(3, 2) % 2 * 255
    assert abs(load_frame(save(tmp_path / "checkers.png", checkers), SIZE).astype(int) - 127).max() < 16


def test_bad_images_are_skipped_and_named(tmp_path):
    good = find_images(demo_calibration())[:8]
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(good[0].read_bytes()[:400])
    Image.fromarray(np.zeros((16, 16), np.float32)).save(tmp_path / "float.tif")
    images = load_images([*good, text, cut, tmp_path / "float.tif"], SIZE)
    assert len(images.frames) == len(images.digests) == 8
    assert [s.path.name for s in images.skipped] == ["text.jpg", "cut.jpg", "float.tif"]
    with pytest.raises(EdgeError, match=r"Only 7 usable images.*text\.jpg"):
        load_images([*good[:7], text], SIZE)
    with pytest.raises(EdgeError, match="can't be read"):
        load_frame(text, SIZE)


def test_labels_come_from_folders_that_bear_class_names(demo):
    paths = find_images(demo_calibration())
    labels, note = class_labels(paths, demo.labels)
    assert note is None
    assert [demo.labels[i] for i in labels] == [p.parent.name for p in paths]
    labels, note = class_labels(paths, ["plane", *demo.labels[1:]])
    assert labels is None
    assert "Some folder names match no class (airplane)" in note
    assert class_labels(paths, ["x", "y"])[1].startswith("No folder name matches a class")


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
