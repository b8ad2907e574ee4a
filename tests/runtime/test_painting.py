"""What a model says, painted on the pictures that it saw."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import bundle_around
from PIL import Image

from veca_edge.actions.run import paint, run
from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.base.tasks import Task, Tokens
from veca_edge.bundle.types import Artifact, HeadFacts, TermFacts
from veca_edge.runtime.classes import LikelyClass
from veca_edge.runtime.painting import Painter, chosen_shows

SIZE = ImageSize(32, 32)
OUTPUTS = ("cls", "dense", "logits", "segmentation", "depth")


def painter(tmp_path, *shows: str) -> Painter:
    artifact = Artifact("a.onnx", "onnx", "cpu", 8, "fp32", SIZE, 1, "image", OUTPUTS, "0" * 64, 1)
    segment = HeadFacts(
        Task.SEGMENT, 2, (TermFacts(0, Tokens.PATCHES),), labels=("left", "right"), palette=("#ff0000", "#0000ff")
    )
    return Painter(bundle_around(tmp_path, [artifact], heads=(segment,)), artifact, shows)


def test_what_is_shown_by_itself():
    assert chosen_shows((), OUTPUTS) == ("classes", "segmentation", "depth"), "what the tasks say"
    assert chosen_shows((), ("cls", "dense")) == ("pca",), "without a head"
    assert chosen_shows((), ("cls",)) == ()
    assert chosen_shows(("depth",), OUTPUTS) == ("depth",)
    with pytest.raises(EdgeError, match="hologram"):
        chosen_shows(("hologram",), OUTPUTS)
    with pytest.raises(EdgeError, match="needs the output 'depth'"):
        chosen_shows(("depth",), ("cls",))


def test_where_the_core_tokens_look(tmp_path):
    assert chosen_shows((), ("cls", "dense", "attention")) == ("pca",), "only when it is asked for"
    weights = np.zeros((8, 8), np.float32)
    weights[:, 4:] = 0.1
    picture = np.full((320, 320, 3), 128, np.uint8)
    paint_cores = painter(tmp_path, "cores")
    made = paint_cores(picture, {"attention": weights}).astype(int)
    assert made[160, 300, 0] > made[160, 300, 2] + 100, "amber where they look"
    assert made[160, 20].max() < 128, "darker where they don't"
    faint = paint_cores(picture, {"attention": weights / 2}).astype(int)
    assert faint[160, 300, 0] < made[160, 300, 0], "one scale for a run"


def test_masks_in_the_colours_of_the_bundle(tmp_path):
    labels = np.zeros((8, 8), np.uint8)
    labels[:, 4:] = 1
    picture = np.full((40, 80, 3), 128, np.uint8)
    made = painter(tmp_path, "segmentation")(picture, {"segmentation": labels})
    assert made.shape == (160, 320, 3), "enlarged, so that a legend can be read"
    below = made[150].astype(int)  # under the legend
    assert below[100, 0] > below[100, 2]
    assert below[220, 2] > below[220, 0]
    assert (made[150, 20] == 128).all(), "the model did not see it"


def test_several_side_by_side_and_one_scale_for_a_run(tmp_path):
    paint_all = painter(tmp_path, "classes", "depth")
    picture = np.zeros((320, 320, 3), np.uint8)
    near, far = np.full((8, 8), 1.0, np.float32), np.full((8, 8), 9.0, np.float32)
    far[0, 0] = near[0, 0] = 5.0
    first = paint_all(picture, {"depth": near, "logits": np.zeros(2)}, [LikelyClass("cat", 0.9)])
    second = paint_all(picture, {"depth": far, "logits": np.zeros(2)})
    assert first.shape == (320, 640, 3)
    assert first[:, :320].any(), "the class is written"
    assert not np.array_equal(first[:, 320:], second[:, 320:]), "the scale is of the first frame"


def test_images_are_painted_into_a_folder(exported_square, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(path)
    found = run(exported_square.directory, [path], core_count=8)
    (made,) = paint(exported_square.directory, found, tmp_path / "painted")
    with Image.open(made) as picture:
        assert picture.size == (320, 320)
    again = run(exported_square.directory, [path, path], core_count=8)
    with pytest.raises(EdgeError, match="Two images are called a"):
        paint(exported_square.directory, again, tmp_path / "other")
    assert not (tmp_path / "other").exists()
