"""One bundle of the demo model for all actions."""

from __future__ import annotations

import pytest

from veca_edge.actions.export import export
from veca_edge.actions.request import CheckpointSource, ExportRequest, ImageSource
from veca_edge.base.spec import ImageSize
from veca_edge.demo import demo_calibration, demo_evaluation
from veca_edge.model.checkpoint import save_safetensors


@pytest.fixture(scope="session")
def result(tmp_path_factory):
    output = tmp_path_factory.mktemp("pipeline") / "bundle"
    return export(ExportRequest(output, core_counts=(8, 16), precisions=("int8", "fp32"), measure=False))


@pytest.fixture(scope="session")
def short_request(short_demo, tmp_path_factory):
    """A request for `short_demo` at 32 x 32 pixels, with the demo's images; its output is to be replaced."""
    checkpoint = tmp_path_factory.mktemp("short") / "short.safetensors"
    save_safetensors(short_demo, checkpoint)
    return ExportRequest(
        checkpoint.parent / "nowhere",
        CheckpointSource(checkpoint),
        ImageSource(demo_calibration(), evaluation=demo_evaluation()),
        image_sizes=(ImageSize(32, 32),),
    )
