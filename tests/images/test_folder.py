"""Finding, sampling and labelling images in folders of every awkward kind."""

import numpy as np
import pytest
from PIL import Image

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.demo import demo_calibration
from veca_edge.images.folder import class_labels, find_images, load_images, sample
from veca_edge.images.preprocessing import Preprocessing, prepare

SIZE = ImageSize(16, 16)


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
    assert len(sample(paths, 1, seed=0)) == 1
    with pytest.raises(EdgeError, match="0 images were asked for"):
        sample(paths, 0, seed=0)


def test_demo_frames_are_the_pixels_themselves():
    paths = find_images(demo_calibration())[:8]
    images = load_images(paths, ImageSize(32, 32))
    for frame, path in zip(images.frames, paths, strict=True):
        np.testing.assert_array_equal(frame, np.asarray(Image.open(path).convert("RGB")))


def test_frames_are_made_in_the_way_that_is_asked_for_and_labelled(tmp_path, demo):
    for name in ("bird/1.png", "airplane/2.png"):
        (tmp_path / name).parent.mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
    paths, how = find_images(tmp_path), Preprocessing("letterbox")
    images = load_images(paths, SIZE, classes=demo.labels, minimum=2, preprocessing=how)
    for frame, path in zip(images.frames, paths, strict=True):
        np.testing.assert_array_equal(frame, prepare(path, SIZE, how))
    assert [demo.labels[i] for i in images.labels] == ["airplane", "bird"]
    assert load_images(paths, SIZE, minimum=2).labels is None


def test_too_few_images_are_said_with_what_could_not_be_read_of_them(tmp_path):
    good, bad = find_images(demo_calibration())[:3], [tmp_path / f"{i}.png" for i in range(10)]
    with pytest.raises(EdgeError) as caught:
        load_images(good, SIZE)
    assert caught.value.message == "Only 3 usable images, but at least 8 are needed."
    for path in bad:
        path.write_text("no image")
    with pytest.raises(EdgeError, match=r"needed\. 10 could not be read: .*7\.png \([^)]*\), and 2 more\."):
        load_images([*good, *bad], SIZE)


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
        prepare(text, SIZE)


def test_labels_come_from_folders_that_bear_class_names(demo):
    paths = find_images(demo_calibration())
    labels, note = class_labels(paths, demo.labels)
    assert note is None
    assert [demo.labels[i] for i in labels] == [p.parent.name for p in paths]
    labels, note = class_labels(paths, ["plane", *demo.labels[1:]])
    assert labels is None
    assert "Some folder names match no class (airplane)" in note
    assert class_labels(paths, ["x", "y"])[1].startswith("No folder name matches a class")
