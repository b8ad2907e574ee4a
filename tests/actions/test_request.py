"""Requests made in Python of plain values: read as the command line reads them, or refused in its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from veca_edge.actions.fit_request import FitRequest
from veca_edge.actions.request import CheckpointSource, ExportRequest, ImageSource
from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize


def test_paths_may_be_text():
    request = ExportRequest("b", CheckpointSource("m.pt"), ImageSource("photos", evaluation="judges"))
    assert (request.output, request.checkpoint.path) == (Path("b"), Path("m.pt"))
    assert (request.images.calibration, request.images.evaluation) == (Path("photos"), Path("judges"))
    fitted = FitRequest(data="d", output="h.safetensors", evaluation="e", cache="c")
    assert (fitted.data, fitted.output) == (Path("d"), Path("h.safetensors"))
    assert (fitted.evaluation, fitted.cache) == (Path("e"), Path("c"))


@pytest.mark.parametrize(
    ("field", "given", "read"),
    [
        ("precisions", "fp32", ("fp32",)),
        ("precisions", "int8,fp32", ("int8", "fp32")),
        ("outputs", "cls", ("cls",)),
        ("core_counts", 16, (16,)),
        ("core_counts", "all", ()),
        ("core_counts", [8, 16], (8, 16)),
        ("core_counts", [], ()),
        ("image_sizes", 64, (ImageSize(64, 64),)),
        ("image_sizes", (64,), (ImageSize(64, 64),)),
        ("image_sizes", ImageSize(32, 64), (ImageSize(32, 64),)),
        ("image_sizes", ["32x64", (64, 32)], (ImageSize(32, 64), ImageSize(64, 32))),
    ],
)
def test_lists_are_read_as_they_are_typed(field, given, read):
    assert getattr(ExportRequest("b", **{field: given}), field) == read


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"output": 3}, "output is 3, not a path"),
        ({"checkpoint": ""}, "checkpoint is empty"),
        ({"images": "photos"}, "images takes options of the type ImageSource, not str"),
        ({"image_sizes": (6.5,)}, "'6.5' is not an image size"),
        ({"core_counts": (8.0,)}, "'8.0' is not a core count"),
    ],
)
def test_what_can_not_be_is_one_message(fields, message):
    with pytest.raises(EdgeError, match=message):
        ExportRequest(**{"output": "b", **fields})
    with pytest.raises(EdgeError, match="calibration is 3, not a path"):
        ImageSource(3)


def test_the_size_of_a_fit_is_one():
    assert FitRequest(image_size=64).image_size == FitRequest(image_size="64").image_size == ImageSize(64, 64)
    assert FitRequest(image_size=(32, 64)).image_size == (32, 64)
