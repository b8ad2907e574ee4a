"""Folders, CSV files, shards and videos: what is found, in chunks that any process can read."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.base.tasks import Task
from veca_edge.evaluation.data import open_data
from veca_edge.evaluation.forms import SORTED
from veca_edge.evaluation.samples import Classes
from veca_edge.images.labelled import target_of

from .conftest import CLASSES, write_images

KNOWN = Classes(CLASSES, len(CLASSES))


def read(data):
    """Every sample, through chunks as another process gets them."""
    return [s for chunk in data.chunks() for s in pickle.loads(pickle.dumps(chunk)).samples()]


def test_a_folder_names_classes(images):
    data = open_data(str(images), KNOWN, 7)
    found = read(data)
    assert (data.kind, data.images, data.truths) == ("folder", 40, (Task.CLASSIFY,))
    assert [s.name for s in found] == sorted(s.name for s in found)
    assert all(s.label == CLASSES.index(s.name.partition("/")[0]) for s in found)
    assert [s.name for s in found if s.pixels is None] == ["bird/00010.png"]
    keys = [chunk.key for chunk in data.chunks()]
    assert len(keys) == len(set(keys)) == 6


def test_the_digest_tells_data_apart(tmp_path):
    one = open_data(str(write_images(tmp_path / "one", 8)), KNOWN)
    assert open_data(str(tmp_path / "one"), KNOWN).digest == one.digest
    (tmp_path / "one" / "cat" / "00003.png").rename(tmp_path / "one" / "bird" / "00003.png")
    assert open_data(str(tmp_path / "one"), KNOWN).digest != one.digest


def test_folders_in_their_order(tmp_path):
    folder = write_images(tmp_path, 8, classes=("n01", "n02", "n03", "n04"))
    noted = open_data(str(folder), KNOWN)
    assert noted.truths == ()
    assert "--folder-classes sorted" in noted.notes[0]
    data = open_data(str(folder), Classes(CLASSES, 4, SORTED))
    assert {s.name.partition("/")[0]: s.label for s in read(data)} == {"n01": 0, "n02": 1, "n03": 2, "n04": 3}
    with pytest.raises(EdgeError, match="4 folders of images, but 5 classes"):
        open_data(str(folder), Classes(None, 5, SORTED))


def test_some_folders_without_a_class_are_an_error(tmp_path):
    folder = write_images(tmp_path, 8, classes=("cat", "unheard"))
    with pytest.raises(EdgeError, match="unheard"):
        open_data(str(folder), KNOWN)


@pytest.mark.parametrize("task", [Task.SEGMENT, Task.DEPTH])
def test_masks_and_depths_beside_images(task, tmp_path):
    from labelled_data import write_labelled

    folder = write_labelled(tmp_path / "data", task, 6)
    data = open_data(str(folder), KNOWN, 4)
    found = read(data)
    assert data.truths == (task,)
    assert len(found) == 6
    assert all((s.mask if task == Task.SEGMENT else s.depth).is_file() for s in found)
    next((folder / ("masks" if task == Task.SEGMENT else "depth")).iterdir()).unlink()
    with pytest.raises(EdgeError, match="No mask or depth is there for 1 image: "):
        open_data(str(folder), KNOWN)


def test_a_csv_of_paths_and_labels(images, tmp_path):
    table = tmp_path / "val.csv"
    paths = [p for p in sorted(images.rglob("*.png")) if p.name != "00010.png"]
    lines = [f"{p},{p.parent.name if i % 2 else CLASSES.index(p.parent.name)}" for i, p in enumerate(paths)]
    table.write_text("\n".join(["path,label", *lines, "missing.png,cat"]) + "\n")
    found = read(open_data(str(table), KNOWN, 16))
    assert [s.label for s in found[:-1]] == [CLASSES.index(p.parent.name) for p in paths]
    assert (found[-1].pixels, found[-1].failure) == (None, "no such file")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na.png,cat\n", "no column 'path'"),
        ("path,label\na.png,dog\n", r"line 2: The label 'dog' is no class"),
        ("path,label\na.png,4\n", "The label '4' is no class"),
        ("path,label\n", "lists no images"),
        ("path,label\n,cat\n", "names no path"),
    ],
)
def test_a_csv_that_is_wrong(text, said, tmp_path):
    table = tmp_path / "val.csv"
    table.write_text(text)
    with pytest.raises(EdgeError, match=said):
        open_data(str(table), KNOWN)


def write_shard(path, samples):
    """A shard as WebDataset's own tools write it: of each sample its files by their kinds, behind one another."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, files in samples:
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{name}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def write_shards(images, folder, each: int = 15):
    """Shards of some images with their classes."""
    paths = sorted(images.rglob("*.png"))
    for n, start in enumerate(range(0, len(paths), each)):
        samples = [
            (path.stem, {"png": path.read_bytes(), "cls": str(CLASSES.index(path.parent.name)).encode()})
            for path in paths[start : start + each]
        ]
        write_shard(folder / f"val-{n:02d}.tar", samples)
    return folder


def test_shards_are_the_images_that_were_packed(images, tmp_path):
    pytest.importorskip("webdataset", reason="webdataset is not installed: pip install 'veca-edge[webdataset]'")
    folder = write_shards(images, tmp_path / "shards")
    expected = {s.name.rpartition("/")[2]: s for s in read(open_data(str(images), KNOWN))}
    for text in (str(folder), str(folder / "val-{00..02}.tar")):
        data = open_data(text, KNOWN, 4)
        assert (data.kind, data.images, data.truths) == ("shards", 40, (Task.CLASSIFY,))
        found = read(data)
        assert len(found) == 40
        for sample in found:
            same = expected[sample.name.rpartition("/")[2] + ".png"]
            assert (sample.label, sample.pixels is None) == (same.label, same.pixels is None)
            if sample.pixels is not None:
                np.testing.assert_array_equal(sample.pixels, same.pixels)
    with pytest.raises(EdgeError, match=r"1 of 4 shards are missing: .*val-03"):
        open_data(str(folder / "val-{00..03}.tar"), KNOWN)


@pytest.mark.parametrize(
    ("task", "suffix", "kind"),
    [
        (Task.SEGMENT, ".png", "mask.png"),
        (Task.SEGMENT, ".png", "seg.png"),
        (Task.DEPTH, ".png", "depth.png"),
        (Task.DEPTH, ".npy", "depth.npy"),
    ],
)
def test_masks_and_depths_in_shards_are_those_of_folders(task, suffix, kind, tmp_path):
    pytest.importorskip("webdataset", reason="webdataset is not installed: pip install 'veca-edge[webdataset]'")
    from labelled_data import write_labelled

    folder = write_labelled(tmp_path / "data", task, 6, suffix)
    beside = folder / ("masks" if task == Task.SEGMENT else "depth")
    samples = [
        (p.stem, {kind: (beside / f"{p.stem}{suffix}").read_bytes(), "png": p.read_bytes()})
        for p in sorted((folder / "images").iterdir())
    ]
    data = open_data(str(write_shard(tmp_path / "a.tar", samples)), KNOWN, 4)
    assert (data.images, data.truths) == (6, (task,))
    size = ImageSize(32, 32)
    for packed, loose in zip(read(data), read(open_data(str(folder), KNOWN, 4)), strict=True):
        np.testing.assert_array_equal(packed.pixels, loose.pixels)
        files = ((s.mask, s.depth)[task == Task.DEPTH] for s in (packed, loose))
        found, expected = (target_of(file, task, (32, 32), size, (8, 8)) for file in files)
        np.testing.assert_array_equal(found, expected)
        assert len(np.unique(expected)) > 1
    del samples[2][1][kind]
    with pytest.raises(EdgeError, match=f"1 of the 6 images in a.tar have no .*{kind}"):
        open_data(str(write_shard(tmp_path / "a.tar", samples)), KNOWN)


def test_a_damaged_mask_in_a_shard_is_named(tmp_path):
    pytest.importorskip("webdataset", reason="webdataset is not installed: pip install 'veca-edge[webdataset]'")
    image = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image, "png")
    path = write_shard(tmp_path / "a.tar", [("one", {"png": image.getvalue(), "mask.png": b"none"})])
    (sample,) = read(open_data(str(path), KNOWN))
    with pytest.raises(EdgeError, match=r"a\.tar/one\.mask\.png can't be read"):
        target_of(sample.mask, Task.SEGMENT, (8, 8), ImageSize(8, 8), (2, 2))


def test_a_shard_that_is_none(tmp_path):
    pytest.importorskip("webdataset", reason="webdataset is not installed: pip install 'veca-edge[webdataset]'")
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(EdgeError, match="can't be read as a plain tar"):
        open_data(str(tmp_path / "a.tar"), KNOWN)


def noise(count):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.mp4", "libx264"), ("clip.avi", "mpeg4"), ("clip.webm", "libvpx-vp9")]
)
def test_frames_of_a_video_from_the_middle_are_those_of_the_whole(name, codec, tmp_path):
    from videos import written

    path = written(tmp_path / name, noise(50), codec)
    whole, parts = (read(open_data(str(path), KNOWN, size)) for size in (1000, 16))
    assert [s.name for s in parts] == [s.name for s in whole] == [f"{name}#{i}" for i in range(50)]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.pixels.rgb, other.pixels.rgb)
        assert one.size == (48, 64)


def test_frames_of_a_video_that_says_no_times(tmp_path):
    """A bare stream of H.264, as some cameras record it."""
    from videos import written

    path = written(tmp_path / "clip.h264", noise(40)).rename(tmp_path / "clip.mkv")
    data = open_data(str(path), KNOWN, 16)
    assert data.images == 40
    assert all(chunk.begin is None for chunk in data.chunks())
    whole, parts = read(open_data(str(path), KNOWN, 1000)), read(data)
    assert len(whole) == len(parts) == 40
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.pixels.rgb, other.pixels.rgb)


def test_a_video_that_is_damaged_keeps_what_can_be_read(tmp_path):
    from videos import written

    path = written(tmp_path / "clip.avi", noise(40), "png", "rgb24")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    found = read(open_data(str(path), KNOWN, 1000))
    assert 10 < len(found) < 40
    assert [s.pixels is None for s in found] == [False] * (len(found) - 1) + [True]
    assert found[-1].failure


@pytest.mark.parametrize(
    ("name", "said"), [("nothing", "There is no data"), ("text.txt", "no data set of a known form")]
)
def test_what_is_no_data(name, said, tmp_path):
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(EdgeError, match=said):
        open_data(str(tmp_path / name), KNOWN)


def test_an_empty_folder_is_no_data(tmp_path):
    with pytest.raises(EdgeError, match="nothing to evaluate on"):
        open_data(str(tmp_path), KNOWN)
