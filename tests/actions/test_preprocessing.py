"""One preprocessing from the request to the frames of calibration, golden data, `run`, live runs and applications."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import veca_edge
from veca_edge.actions.live import LiveRequest
from veca_edge.actions.request import ExportRequest, ImageSource
from veca_edge.actions.sensitivity import prepared_as
from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.demo import demo_evaluation
from veca_edge.images.folder import find_images, load_images
from veca_edge.images.preprocessing import Preprocessing
from veca_edge.proof.golden import read_golden

SIZE = ImageSize(32, 48)
LETTERBOX = Preprocessing("letterbox")


@pytest.fixture(scope="module")
def bundle(few_images, tmp_path_factory):
    """The demo model at 32 x 48 pixels, which letterboxes its square images."""
    request = ExportRequest(
        tmp_path_factory.mktemp("letterbox") / "bundle",
        images=ImageSource(evaluation=few_images, resize="letterbox"),
        core_counts=(8,),
        precisions=("fp32",),
        image_sizes=(SIZE,),
        outputs=("cls", "logits"),
    )
    return veca_edge.export(request).bundle


def test_the_bundle_declares_it(bundle):
    written = json.loads((bundle.directory / "manifest.json").read_text())["preprocessing"]
    assert Preprocessing.from_json(written) == LETTERBOX
    assert LETTERBOX.description in (bundle.directory / "README.md").read_text()
    model = onnx.load(bundle.directory / bundle.artifacts[0].path, load_external_data=False)
    facts = {p.key: p.value for p in model.metadata_props}
    assert (facts["resize"], facts["padding"]) == ("letterbox", "124 116 104")
    assert "crop_ratio" not in facts


def test_what_judges_is_prepared_so(bundle):
    frames = read_golden(bundle.directory, 8, SIZE).frames
    assert (frames[:, :, :8] == LETTERBOX.padding).all()
    assert (frames[:, :, 40:] == LETTERBOX.padding).all()
    assert (frames[:, :, 8:40] != LETTERBOX.padding).any()
    paths = find_images(demo_evaluation())
    judged = load_images(paths, SIZE, preprocessing=LETTERBOX).frames
    assert any((frame == frames[0]).all() for frame in judged)


def test_run_live_and_load_prepare_alike(bundle):
    images = find_images(demo_evaluation())[:3]
    ran = veca_edge.run(bundle.directory, images).images
    with veca_edge.load(bundle.directory) as model:
        assert model.preprocessing == LETTERBOX
        for image, prediction in zip(images, ran, strict=True):
            frame = model.prepare(image)
            np.testing.assert_array_equal(frame, veca_edge.prepare(image, SIZE, LETTERBOX))
            np.testing.assert_allclose(model(frame).cls[0], prediction.outputs["cls"], atol=1e-5)
            cropped = model(veca_edge.prepare(image, SIZE)).cls[0]
            assert np.abs(cropped - prediction.outputs["cls"]).max() > 0.01
    with veca_edge.live(LiveRequest(bundle.directory, str(images[0].parent), frames=1)) as live:
        step = next(iter(live))
        expected = veca_edge.run(bundle.directory, [images[0].parent / step.frame.name]).images[0]
        np.testing.assert_allclose(step.outputs["cls"], expected.outputs["cls"], atol=1e-5)


def test_sensitivity_of_a_bundle_takes_its_preprocessing(bundle):
    assert prepared_as(bundle, ImageSource()).preprocessing == LETTERBOX
    with pytest.raises(EdgeError, match=r"--resize letterbox .* not as asked"):
        prepared_as(bundle, ImageSource(resize="stretch"))


def test_a_request_refuses_what_can_not_be():
    with pytest.raises(EdgeError, match="Known: crop, short-side, letterbox, stretch"):
        ImageSource(resize="fit")
    with pytest.raises(EdgeError, match="impossible"):
        ImageSource(crop_ratio=0)
    with pytest.raises(EdgeError, match="whole frame"):
        ImageSource(resize="stretch", crop_ratio=0.9)
