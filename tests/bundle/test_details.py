"""Typed views of what artifacts of one kind say of themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.bundle.details import TensorrtDetails, details_as

JETSON = Path(__file__).parents[1] / "data" / "version1" / "jetson_manifest.json"


def test_of_the_previous_release():
    found = [details_as(a["details"], TensorrtDetails) for a in json.loads(JETSON.read_text())["artifacts"]]
    assert [(d.strongly_typed, d.build_flags) for d in found] == [(True, ("--stronglyTyped", "--noTF32"))] * 2


@pytest.mark.parametrize(
    "flag", ["--plugins=/tmp/evil.so", "--saveEngine=/etc/passwd", "--noTF32 --plugins=x", "--noTF32x", "noTF32", ""]
)
def test_a_manifest_hands_no_other_flags_to_the_builder(flag):
    assert details_as({"build_flags": ["--int8", "--layerPrecisions=a:fp16"]}, TensorrtDetails).build_flags
    with pytest.raises(EdgeError, match=r"build_flags\[0\]"):
        details_as({"build_flags": [flag]}, TensorrtDetails)
