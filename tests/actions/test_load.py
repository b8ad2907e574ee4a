"""Which kind of file runs where; one behaviour for images and for live runs, and nothing that was not asked for."""

from __future__ import annotations

from contextlib import closing

import pytest
from standin.fixtures import write_bundle, write_model

from veca_edge.actions.live import open_live
from veca_edge.actions.load import load_bundle
from veca_edge.actions.run import run
from veca_edge.actions.run_request import LiveRequest
from veca_edge.base.errors import EdgeError
from veca_edge.demo import demo_evaluation


@pytest.fixture
def without_engines(tmp_path):
    folder = tmp_path / "jetson"
    folder.mkdir()
    write_bundle(folder, [write_model(folder, "cores16_fp16_32x32")])
    return folder


def test_a_bundle_without_engines_is_refused_everywhere_alike(without_engines):
    image = next(demo_evaluation().rglob("*.jpg"))
    for what in (
        lambda: run(without_engines, [image]),
        lambda: open_live(LiveRequest(without_engines, str(image.parent))),
        lambda: load_bundle(without_engines),
    ):
        with pytest.raises(EdgeError, match="holds no engine to run") as refused:
            what()
        assert "veca-edge build" in refused.value.hint
        assert "--format onnx" in refused.value.hint


def test_a_format_of_another_target_is_refused(square_bundle):
    with pytest.raises(EdgeError, match="no files of the format 'engine'"):
        load_bundle(square_bundle, format="engine")


def test_a_closed_model_says_so(square_bundle):
    with closing(load_bundle(square_bundle, (8,))) as model:
        frame = model._blank
    with pytest.raises(EdgeError, match="was closed"):
        model(frame)
