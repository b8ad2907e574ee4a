"""Golden data is what was written, or one error."""

import math
import os
from types import SimpleNamespace

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.proof.evaluate import golden_cosine
from veca_edge.proof.golden import read_golden, write_golden

SIZE = ImageSize(8, 12)
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
OUTPUTS = {"cls": np.ones((2, 5)), "dense": np.arange(2 * 24 * 5.0).reshape(2, 24, 5), "logits": np.ones((2, 3))}
MAPS = {
    "segmentation": np.arange(2 * 8 * 12).reshape(2, 8, 12),
    "segmentation_logits": np.ones((2, 3, 2, 3)) / 2,
    "depth": np.ones((2, 8, 12)) / 4,
    "attention": np.ones((2, 8, 24)) / 8,
}


@pytest.fixture
def directory(tmp_path):
    write_golden(tmp_path, 8, SIZE, FRAMES, OUTPUTS)
    return tmp_path


def test_there_and_back(directory):
    golden = read_golden(directory, 8, SIZE)
    np.testing.assert_array_equal(golden.frames, FRAMES)
    assert golden.outputs.keys() == OUTPUTS.keys()
    kept = golden.of(OUTPUTS)
    for name, value in kept.items():
        np.testing.assert_array_equal(golden.outputs[name], value)
    assert kept["dense"].shape == (2, 16, 5)


def test_maps_come_back_too_and_every_core_count_has_its_own_outputs(directory):
    write_golden(directory, 16, SIZE, FRAMES, MAPS)
    golden = read_golden(directory, 16, SIZE)
    assert golden.outputs.keys() == MAPS.keys()
    for name, value in golden.of(MAPS).items():
        np.testing.assert_array_equal(golden.outputs[name], value)
    assert {name: str(value.dtype) for name, value in golden.outputs.items()} == {
        **dict.fromkeys(MAPS, "float32"),
        "segmentation": "int32",
    }
    assert read_golden(directory, 8, SIZE).outputs.keys() == OUTPUTS.keys()


@pytest.mark.parametrize("frames", [FRAMES.astype(np.float32), FRAMES.transpose(0, 2, 1, 3)])
def test_frames_of_another_kind_are_not_written(tmp_path, frames):
    with pytest.raises(ValueError, match="golden frames are"):
        write_golden(tmp_path, 8, SIZE, frames, OUTPUTS)
    assert not list(tmp_path.iterdir())


def changed(directory, **arrays):
    path = directory / "golden" / "cores8_8x12.npz"
    with np.load(path) as stored:
        kept = {**{name: stored[name] for name in stored.files}, **arrays}
    np.savez(path, **{name: value for name, value in kept.items() if value is not None})


@pytest.mark.parametrize(
    "arrays",
    [
        {"patches": None},
        {"patches": np.arange(16.0)},
        {"patches": np.arange(16) - 1},
        {"patches": np.arange(16) + 96 - 15},
        {"patches": np.arange(15)},
        {"patches": np.arange(16).reshape(4, 4)},
        {"cls": np.ones((2, 5))},
        {"cls": np.ones((1, 5), np.float32)},
        {"cls": np.array([[1, 1, np.nan, 1, 1], [1, 1, 1, 1, 1]], np.float32)},
        {"cls": np.float32(1)},
        {"dense": np.ones((2, 16), np.float32)},
        {"other": np.ones((2, 16), np.float32)},
    ],
)
def test_arrays_that_do_not_fit(directory, arrays):
    changed(directory, **arrays)
    with pytest.raises(EdgeError, match=r"golden data .* can't be read"):
        read_golden(directory, 8, SIZE)


@pytest.mark.parametrize("image", [FRAMES[:0], FRAMES[:, :4], FRAMES.astype(np.float32), FRAMES[0], np.uint8(1)])
def test_frames_that_do_not_fit(directory, image):
    np.savez(directory / "golden" / "frames_8x12.npz", image=image)
    with pytest.raises(EdgeError, match="the frames are"):
        read_golden(directory, 8, SIZE)


def test_files_that_are_damaged_or_something_else(directory):
    path = directory / "golden" / "frames_8x12.npz"
    content = path.read_bytes()
    for damage in (b"", content[:50], content[:-30]):
        path.write_bytes(damage)
        with pytest.raises(EdgeError, match="can't be read"):
            read_golden(directory, 8, SIZE)
    np.savez(path, other=FRAMES)
    with pytest.raises(EdgeError, match="the frames are missing"):
        read_golden(directory, 8, SIZE)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(EdgeError, match="is missing"):
        read_golden(directory, 8, SIZE)


def test_outputs_of_another_model(directory):
    golden = read_golden(directory, 8, SIZE)
    for name, value in (("dense", np.ones((2, 20, 5))), ("dense", np.ones((2, 24, 6))), ("cls", np.ones((2, 6)))):
        with pytest.raises(EdgeError, match=f"not this model's: its '{name}'"):
            golden.of({name: value})


def test_an_output_that_is_not_stored(directory):
    changed(directory, dense=None)
    with pytest.raises(EdgeError, match="its 'dense' is missing"):
        read_golden(directory, 8, SIZE).of(OUTPUTS)


def test_any_of_the_frames_may_be_asked(directory):
    one = {name: value[:1] for name, value in OUTPUTS.items()}
    assert read_golden(directory, 8, SIZE).of(one)["dense"].shape == (1, 16, 5)


@pytest.mark.parametrize("broken", ["cls", "dense", "logits"])
def test_an_output_that_is_not_a_number_is_not_overlooked(directory, broken):
    """Whichever of them it is: the others are as they were."""

    class Broken:
        def __call__(self, batch):
            whole = {name: np.array(value[: len(batch)]) for name, value in OUTPUTS.items()}
            return {**whole, broken: np.full_like(whole[broken], np.nan)}

        def close(self):
            pass

    artifact = SimpleNamespace(
        core_count=8, image_size=SIZE, batch=2, input="image", outputs=("cls", "dense", "logits")
    )
    assert math.isnan(golden_cosine(directory, artifact, lambda *given: Broken(), None))
