"""What the previous release wrote still opens; `data/version1` holds files that it wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from veca_edge.base.options import to_mapping
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.store import open_bundle, write_manifest
from veca_edge.converters.tensorrt.options import TensorrtOptions
from veca_edge.profiles.store import load_measurement
from veca_edge.targets.table import target_named

FILES = Path(__file__).parents[1] / "data" / "version1"


@pytest.mark.parametrize(("name", "core_counts"), [("manifest", (8,)), ("jetson_manifest", (8, 16))])
def test_a_manifest_opens_and_stays_the_same(tmp_path, name, core_counts):
    shutil.copy(FILES / f"{name}.json", tmp_path / "manifest.json")
    bundle = open_bundle(tmp_path)
    assert bundle.core_counts == core_counts
    assert bundle.image_sizes == (ImageSize(32, 32),)
    assert bundle.checkpoint.name == "square"
    assert [f.name for f in bundle.fidelity] == [a.name for a in bundle.artifacts]
    assert all(f.reference.lowest_mean > 0.9999 for f in bundle.fidelity)
    assert set(bundle.details.golden_cosine) == {a.name for a in bundle.artifacts}
    old = json.loads((FILES / f"{name}.json").read_text())
    new = json.loads(json.dumps(bundle.to_json()))
    # No options were null where a target has none.
    old["spec"]["target_options"] = old["spec"]["target_options"] or {}
    assert new == old


def test_options_of_its_target_are_typed(tmp_path):
    shutil.copy(FILES / "jetson_manifest.json", tmp_path / "manifest.json")
    spec = open_bundle(tmp_path).spec
    options = target_named(spec.target).options_of(spec)
    assert options == TensorrtOptions(version="10.3")
    assert to_mapping(options)["elastic"] is False


def test_a_measurement_opens_and_stays_the_same(tmp_path):
    measured = load_measurement(FILES / "measurement.json")
    assert measured.artifact == "cores8_fp32_32x32"
    assert measured.details["cost"]["macs"] == 3474816
    old = json.loads((FILES / "measurement.json").read_text())
    assert json.loads(json.dumps(measured.to_json())) == old


def test_it_can_be_written_again(tmp_path):
    shutil.copy(FILES / "manifest.json", tmp_path / "manifest.json")
    bundle = open_bundle(tmp_path)
    again = write_manifest(bundle)
    assert open_bundle(tmp_path) == again
