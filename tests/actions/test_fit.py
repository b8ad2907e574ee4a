"""Heads fitted to small made-up data, and what can be wrong with data."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled_data import write_labelled
from PIL import Image
from safetensors import safe_open

from veca_edge.actions.export import export
from veca_edge.actions.fit import fit
from veca_edge.actions.fit_request import FitRequest
from veca_edge.actions.request import CheckpointSource, ExportRequest
from veca_edge.actions.resolve import check_resize
from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.base.tasks import HeadFile, Task
from veca_edge.demo import demo_checkpoint, demo_evaluation
from veca_edge.fitting import features as features_module
from veca_edge.fitting import train
from veca_edge.images.labelled import find_labelled, read_depth, read_mask, target_of
from veca_edge.images.preprocessing import prepare
from veca_edge.model import reference
from veca_edge.model.checkpoint import load_checkpoint
from veca_edge.model.head_files import read_head

SIZE = ImageSize(32, 32)


def request(tmp_path: Path, task: Task, folder: Path, **fields) -> FitRequest:
    options = {"core_counts": (8, 64), "steps": 150, **fields}
    return FitRequest(task=str(task), data=folder, output=tmp_path / "head.safetensors", **options)


def test_masks(tmp_path):
    folder = write_labelled(tmp_path / "data", Task.SEGMENT)
    (folder / "labels.txt").write_text("dark\nbright\n")
    result = fit(request(tmp_path, Task.SEGMENT, folder))
    assert [h.core_count for h in result.held_out] == [8, 64]
    assert all(h.segmentation.miou > 0.9 for h in result.held_out)
    assert result.head.labels == ("dark", "bright")
    checkpoint = load_checkpoint(demo_checkpoint(), head_files=[HeadFile(result.path)])
    head = checkpoint.head_for(Task.SEGMENT)
    assert head.labels == ("dark", "bright")
    assert np.array_equal(head.terms[0].weight, result.head.terms[0].weight)


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_depth(tmp_path, suffix):
    folder = write_labelled(tmp_path / "data", Task.DEPTH, suffix=suffix)
    result = fit(request(tmp_path, Task.DEPTH, folder, steps=400, core_counts=(8,)))
    assert result.head.depth_range == (1.0, 4.0)
    assert all(h.depth.delta1 > 0.8 for h in result.held_out)
    assert read_head(HeadFile(result.path), load_checkpoint(demo_checkpoint()).config).depth_range == (1.0, 4.0)


def test_classes_of_folders_and_a_judging_folder(tmp_path):
    """What judges does not train, by whichever path it is reached."""
    judges = tmp_path / "judges"
    for folder in demo_evaluation().iterdir():
        (judges / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:2]:
            (judges / folder.name / path.name).symlink_to(path)
    result = fit(request(tmp_path, Task.CLASSIFY, demo_evaluation(), evaluation=judges, core_counts=(8,)))
    assert (result.trained, result.held_out[0].images) == (50, 20)
    assert result.held_out[0].top1 > 0.5
    assert result.notes[0].startswith(f"20 of the 70 images of {demo_evaluation()} are in {judges} too: they judge")
    assert set(result.head.labels) == set(load_checkpoint(demo_checkpoint()).labels)


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    folder = write_labelled(tmp_path / "data", Task.SEGMENT)
    asked = request(tmp_path, Task.SEGMENT, folder, steps=5)
    seen = []

    def stopped(stage, done, total):
        seen.append((stage, done))
        if stage == "computing features" and done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(asked, stopped)
    assert not asked.output.exists()
    again = []
    result = fit(asked, lambda stage, done, total: again.append((stage, done)))
    assert ("computing features", 16) in again
    assert ("computing features", 0) not in again, "the first images are there already"
    whole = fit(replace(asked, cache=tmp_path / "other", force=True))
    assert np.allclose(result.head.terms[0].weight, whole.head.terms[0].weight)


def test_another_size_starts_the_cache_anew(tmp_path):
    folder = write_labelled(tmp_path / "data", Task.SEGMENT)
    fit(request(tmp_path, Task.SEGMENT, folder, steps=5))
    before = json.loads((tmp_path / "head.safetensors.features" / features_module.STATE).read_text())
    fit(request(tmp_path, Task.SEGMENT, folder, steps=5, image_size=ImageSize(64, 64), force=True))
    after = json.loads((tmp_path / "head.safetensors.features" / features_module.STATE).read_text())
    assert before["key"] != after["key"]


def test_a_head_of_another_checkpoint_is_refused(tmp_path):
    folder = write_labelled(tmp_path / "data", Task.SEGMENT)
    result = fit(request(tmp_path, Task.SEGMENT, folder, steps=5))
    config = load_checkpoint(demo_checkpoint()).config
    with pytest.raises(EdgeError, match="another checkpoint"):
        read_head(HeadFile(result.path), config, "0" * 64)


def test_a_head_is_for_the_task_that_it_was_fitted_for(tmp_path):
    """A classifier has the shape of a segmentation head, and would make masks of nothing."""
    fitted = fit(request(tmp_path, Task.CLASSIFY, demo_evaluation(), steps=5, core_counts=(8,)))
    checkpoint = load_checkpoint(demo_checkpoint())
    with pytest.raises(EdgeError, match="holds a head for classify, but segment was asked for"):
        read_head(HeadFile(fitted.path, Task.SEGMENT), checkpoint.config, checkpoint.digest)


def test_a_head_at_core_counts_beyond_those_of_its_fit_is_remarked_upon(tmp_path):
    fitted = fit(request(tmp_path, Task.CLASSIFY, demo_evaluation(), steps=5, core_counts=(8, 24)))
    source = CheckpointSource(head=fitted.path)
    asked = ExportRequest(tmp_path / "bundle", source, precisions=("fp32",), measure=False, force=True)
    said = "The head for classify was fitted at 8, 24 cores, and never saw the features of 32, 64"
    for counts, remarks in (((8, 16), 0), ((16, 32, 64), 1)):
        notes = export(replace(asked, core_counts=counts)).notes
        assert sum(note.startswith(said) for note in notes) == remarks


# ------------------------------------------------------------------------------------------- targets


def test_a_mask_goes_through_the_crop_of_its_image(tmp_path):
    """A picture of class indices, and its mask, end as the same map."""
    mask = np.zeros((48, 96), np.uint8)
    mask[:, 40:] = 1
    mask[20:, 60:] = 2
    (tmp_path / "masks").mkdir()
    (tmp_path / "images").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    Image.fromarray(np.repeat(mask[..., None] * 100, 3, 2)).save(tmp_path / "images" / "a.png")
    (item,) = find_labelled(tmp_path, Task.SEGMENT).images
    made = target_of(item.file, Task.SEGMENT, mask.shape, SIZE, (32, 32))
    frame = prepare(np.repeat(mask[..., None] * 100, 3, 2), SIZE)[..., 0]
    assert (np.rint(frame / 100) == made).mean() > 0.95


def test_features_are_of_frames_prepared_as_asked(tmp_path):
    """The pictures are square and the frames twice as wide: letterboxed masks know nothing beside them."""
    folder = write_labelled(tmp_path / "data", Task.SEGMENT, count=8)
    asked = request(tmp_path, Task.SEGMENT, folder, steps=2, image_size=(32, 64), core_counts=(8,), map_stride=1)
    masks = {}
    for kind in ("stretch", "letterbox"):
        result = fit(replace(asked, resize=kind, force=True))  # one cache, which must notice
        masks[kind] = np.load(result.cache / "targets.npy")
    assert (masks["stretch"] >= 0).all()
    assert (masks["letterbox"][..., :16] == -1).all()
    assert (masks["letterbox"][..., 16:48] >= 0).all()
    with safe_open(asked.output, "np") as file:
        assert json.loads(file.metadata()["head_facts"])["resize"] == "letterbox"
    head = load_checkpoint(demo_checkpoint(), head_files=[HeadFile(asked.output)]).head_for(Task.SEGMENT)
    assert head.resize == ("letterbox", 1.0)
    heads = (head,)
    check_resize(heads, replace(asked, resize="letterbox"))
    with pytest.raises(EdgeError, match=r"made with --resize letterbox --crop-ratio 1, and here .* --resize crop"):
        check_resize(heads, asked)


def test_unlabelled_pixels_and_unknown_depths(tmp_path):
    Image.fromarray(np.array([[0, 255], [7, 1]], np.uint8)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[0, -1], [7, 1]]
    np.save(tmp_path / "depth.npy", np.array([[1.5, np.nan], [-1.0, 2.0]]))
    assert read_depth(tmp_path / "depth.npy").tolist() == [[1.5, 0.0], [0.0, 2.0]]


def png(bits: int, colour: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 8 x len(rows) pixels as they are packed: Pillow writes no grey of 2 or 4 bits."""
    header = struct.pack(">2I5B", 8, len(rows), bits, colour, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    made = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), *chunks, (b"IDAT", packed), (b"IEND", b"")):
        made += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return made


# The same 0 and 1, 8 of them, in so many bits.
PACKED = {1: b"\x55", 2: b"\x11\x11", 4: b"\x01\x01\x01\x01", 8: b"\0\1\0\1\0\1\0\1"}


@pytest.mark.parametrize("bits", PACKED)
def test_masks_of_few_bits(tmp_path, bits):
    """Indices into a palette are what they are; grey of fewer than 8 bits is opened as other numbers."""
    path = tmp_path / "mask.png"
    path.write_bytes(png(bits, 3, [PACKED[bits]], (b"PLTE", bytes(range(6)))))
    assert read_mask(path).tolist() == [[0, 1] * 4]
    path.write_bytes(png(bits, 0, [PACKED[bits]]))
    if bits == 8:
        assert read_mask(path).tolist() == [[0, 1] * 4]
        return
    with pytest.raises(EdgeError, match=rf"mask\.png is not a mask: .*grey of {bits} bits?\.\n.*stretched"):
        read_mask(path)


def refused(asked: FitRequest, *said: str) -> None:
    with pytest.raises(EdgeError) as caught:
        fit(asked)
    assert caught.value.exit_code == 2
    for text in said:
        assert text in str(caught.value)
    assert not asked.output.exists()


@pytest.mark.parametrize(("share", "left"), [(0.6, 3), (0.9, 1), (0.99, 0)])
def test_a_share_that_leaves_too_few_to_train_on(tmp_path, share, left):
    folder = write_labelled(tmp_path / "data", Task.SEGMENT, count=8)
    asked = request(tmp_path, Task.SEGMENT, folder, steps=2, held_out=share)
    refused(asked, f"--held-out {share} leaves {left} of the 8 images")
    assert not list(tmp_path.glob("*.features")), "before the features are computed"


@pytest.mark.parametrize("value", [np.nan, 1e6])
def test_an_image_whose_features_are_not_finite_is_named(tmp_path, monkeypatch, value):
    """1e6 is more than float16 holds."""
    folder = write_labelled(tmp_path / "data", Task.SEGMENT, count=8)
    made = reference.reference_model

    def damaged(checkpoint):
        model = made(checkpoint)

        def forward(pixels, count):
            cls, dense = model(pixels, count)
            dense[3, 0, 0] = value
            return cls, dense

        return forward

    monkeypatch.setattr(reference, "reference_model", damaged)
    asked = request(tmp_path, Task.SEGMENT, folder, steps=2)
    refused(asked, "not finite", "at 8 cores", "3.png")


def test_an_earlier_cache_with_features_that_are_not_finite(tmp_path):
    folder = write_labelled(tmp_path / "data", Task.SEGMENT, count=20)
    asked = request(tmp_path, Task.SEGMENT, folder, steps=2)
    cache = fit(asked).cache
    np.load(cache / "cores64.npy", mmap_mode="r+")[17, 0, 0] = np.nan
    asked.output.unlink()
    named = find_labelled(folder, Task.SEGMENT).images[17].image.name
    refused(asked, "not finite", "at 64 cores", named)


def test_a_head_that_is_not_finite_is_not_written(tmp_path, monkeypatch):
    folder = write_labelled(tmp_path / "data", Task.SEGMENT, count=8)
    trained = train.fit_head

    def diverged(*args):
        head = trained(*args)
        return replace(head, bias=head.bias * np.nan)

    monkeypatch.setattr(train, "fit_head", diverged)
    refused(request(tmp_path, Task.SEGMENT, folder, steps=2), "not finite, and was not written")


def test_what_is_wrong_with_data(tmp_path):
    folder = write_labelled(tmp_path / "data", Task.SEGMENT)
    asked = request(tmp_path, Task.SEGMENT, folder, steps=2)
    refused(replace(asked, task="paint"), "paint", "segment")
    refused(replace(asked, task=""), "--task")
    refused(replace(asked, task="classify", map_stride=8), "--map-stride is for masks and depth")
    refused(replace(asked, data=None), "--data")
    refused(replace(asked, task="depth"), "has no folder 'depth'")
    refused(replace(asked, held_out=0.0), "--held-out")
    refused(replace(asked, depth_range=(0.1, 1.0)), "--depth-range is for depth")
    refused(replace(asked, output=tmp_path / "head.pt"), ".safetensors")
    refused(replace(asked, core_counts=(9,)), "9")
    refused(
        replace(asked, evaluation=tmp_path / "." / "data" / ".." / "data"), "24 of the 24 images", "0 are left to train"
    )
    (folder / "labels.txt").write_text("one\n")
    refused(asked, "beyond the 1 of labels.txt", "masks")
    (folder / "labels.txt").unlink()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "masks" / "3.png")
    refused(asked, "3.png", "8 x 8")
    (folder / "masks" / "3.png").unlink()
    refused(asked, "Nothing is in ", " for 1 image: ", "3.png")


def test_depth_in_an_unknown_unit(tmp_path):
    folder = write_labelled(tmp_path / "data", Task.DEPTH)
    asked = request(tmp_path, Task.DEPTH, folder, steps=2)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(folder / "depth" / "0.png")
    refused(asked, "0.png", "16-bit PNG of millimetres")
    (folder / "depth" / "0.png").unlink()
    np.save(folder / "depth" / "0.npy", np.ones((32, 32), np.int32))
    refused(asked, "not metres as floats")


def test_something_else_in_the_place_of_the_cache(tmp_path):
    folder = write_labelled(tmp_path / "data", Task.SEGMENT)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    refused(request(tmp_path, Task.SEGMENT, folder, cache=tmp_path / "mine"), "is not a cache of features")
    assert (tmp_path / "mine" / "thesis.txt").exists()
