"""Which kind of file runs where; one behaviour for images and for live runs, and nothing that was not asked for."""

from __future__ import annotations

import shutil
from contextlib import closing

import pytest
from standin.fixtures import write_bundle, write_model

from veca_edge.actions.evaluate import evaluate
from veca_edge.actions.evaluate_request import EvaluateRequest
from veca_edge.actions.live import open_live
from veca_edge.actions.load import load_bundle
from veca_edge.actions.profile import ProfileRequest, profile
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


def test_a_changed_file_is_neither_run_nor_measured(square_bundle, tmp_path):
    """A damaged file that still reads well would say something else, under the name of the intact one."""
    copy = tmp_path / "copy"
    shutil.copytree(square_bundle.directory, copy)
    image = next(demo_evaluation().rglob("*.jpg"))
    (changed,) = {*(copy / "models").glob("*")} - {copy / a.path for a in square_bundle.artifacts} or {None}
    changed = changed or copy / square_bundle.artifacts[0].path
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 0x80
    changed.write_bytes(content)
    for what in (
        lambda: run(copy, [image], core_count=square_bundle.core_counts[0]),
        lambda: load_bundle(copy),
        lambda: open_live(LiveRequest(copy, str(image.parent))),
        lambda: profile(ProfileRequest(copy)),
        lambda: evaluate(EvaluateRequest(bundle=copy, data=str(image.parent))),
    ):
        with pytest.raises(EdgeError, match="is not what was exported; changed: models/"):
            what()


def test_more_threads_than_any_machine_has_cores_for_are_refused(square_bundle):
    with pytest.raises(EdgeError, match="100000 threads cannot run anything"):
        load_bundle(square_bundle, threads=100_000)
