"""A model of a bundle on image files."""

from __future__ import annotations

import pytest

from veca_edge.actions.run import run
from veca_edge.base.errors import EdgeError
from veca_edge.demo import demo_evaluation


def test_run_classifies_images(result):
    images = sorted(demo_evaluation().rglob("*.jpg"))[:3]
    found = run(result.bundle.directory, images, core_count=16, precision="int8")
    artifact, predictions = found.artifact, found.images
    assert artifact.core_count == 16
    assert [p.path for p in predictions] == images
    for prediction in predictions:
        assert prediction.outputs["dense"].shape == (64, 192)
        assert abs(sum(share for _, share in prediction.classes) - 1) < 0.2
        assert prediction.classes[0][0] in result.bundle.labels


def test_a_run_that_fits_several_variants_lists_them(result):
    with pytest.raises(EdgeError, match="cores16_int8"):
        run(result.bundle.directory, sorted(demo_evaluation().rglob("*.jpg"))[:1])


def test_one_image_may_be_given_alone_and_as_text(result):
    path = min(demo_evaluation().rglob("*.jpg"))
    for images in (str(path), path, [str(path)]):
        found = run(result.bundle.directory, images, core_count=16, precision="int8").images
        assert [p.path for p in found] == [path]
    with pytest.raises(EdgeError, match="An image is 3, not a path"):
        run(result.bundle.directory, [3], core_count=16, precision="int8")
