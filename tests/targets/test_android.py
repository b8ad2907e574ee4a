"""The target android, from the export to a measurement: LiteRT itself runs everything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

import veca_edge
from veca_edge.base.errors import EdgeError
from veca_edge.demo import demo_evaluation
from veca_edge.formats.tflite import read_tflite
from veca_edge.targets.android import ANDROID, DYNAMIC_ACTIVATIONS


@pytest.fixture(scope="module")
def exported(short_request, tmp_path_factory) -> veca_edge.ExportResult:
    asked = {"target": "android", "core_counts": (8, 16), "precisions": ("int8", "fp32")}
    output = tmp_path_factory.mktemp("android") / "bundle"
    return veca_edge.export(replace(short_request, output=output, outputs=("cls", "dense", "logits"), **asked))


def test_it_is_close_to_the_reference(exported):
    by_precision = {f.precision: f.reference for f in exported.fidelity if f.core_count == 8}
    assert by_precision["fp32"].lowest_mean > 0.9999999
    for statistics in (by_precision["int8"].cls, by_precision["int8"].dense):
        assert statistics.mean > 0.9999
        assert statistics.first_percentile > 0.999
    assert by_precision["int8"].top1_agreement >= 0.985
    assert DYNAMIC_ACTIVATIONS in exported.notes


def test_one_file_for_all_core_counts(exported):
    bundle = exported.bundle
    assert {a.path for a in bundle.artifacts} == {"models/veca_int8.tflite", "models/veca_fp32.tflite"}
    assert {a.function for a in bundle.artifacts} == {"cores_8", "cores_16"}
    model = read_tflite(bundle.directory / "models/veca_int8.tflite")
    facts = json.loads(model.content(model.metadata["veca_edge"]))
    assert facts["labels"][0] == "airplane"
    assert facts["checkpoint_sha256"] == bundle.checkpoint.sha256
    recipe = veca_edge.open_bundle(bundle.directory).directory / bundle.recipe
    assert b'\\"per_token\\": true' in recipe.read_bytes()
    text = (bundle.directory / "README.md").read_text()
    assert 'get_signature_runner("cores_8")' in text
    assert ANDROID.next_steps(bundle).command == ("profile", str(bundle.directory), "--device", "adb")


def test_verify_run_and_load(exported):
    directory = exported.bundle.directory
    assert all(check.ok and check.cosine > 0.999 for check in veca_edge.verify(directory))
    images = sorted(demo_evaluation().rglob("*.jpg"))[:2]
    found = veca_edge.run(directory, images, 8, "int8")
    with veca_edge.load(directory, precision="int8") as model:
        assert model.core_counts == (8, 16)
        model.core_count = 8
        output = model(veca_edge.prepare(images[0], model.image_size))
        assert np.allclose(output.logits[0], found.images[0].outputs["logits"])
        before = output.cls.copy()
        model.core_count = 16
        assert not np.allclose(model(veca_edge.prepare(images[0], model.image_size)).cls, before)
    with pytest.raises(EdgeError, match="closed"):
        model(np.zeros((*model.image_size, 3), np.uint8))


def test_profile_measures_this_cpu_and_says_so(exported, tmp_path):
    quick = veca_edge.AndroidProfileOptions(threads=1, rounds=1, seconds=0.05)
    request = veca_edge.ProfileRequest(exported.bundle.directory, options=quick)
    measurements = veca_edge.profile(request).profile.measurements
    assert {(m.target, m.core_count, m.precision) for m in measurements} == {
        ("android", c, p) for c in (8, 16) for p in ("int8", "fp32")
    }
    assert all(m.p50_ms > 0 and "ai_edge_litert" in m.machine.versions for m in measurements)
    files = veca_edge.report([exported.bundle.directory], tmp_path / "r.html", veca_edge.ReportOptions(pictures=False))
    assert "n this machine, wall time of calls to LiteRT" in Path(files.html).read_text()


def test_lint_and_doctor(exported):
    path = exported.bundle.directory / "models/veca_int8.tflite"
    assert veca_edge.lint(path, "android") == []
    checks = {c.name: c for c in ANDROID.doctor()}
    assert checks["ai-edge-litert"].ok
    assert checks["adb"].ok is not False
