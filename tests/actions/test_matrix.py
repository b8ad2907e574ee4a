"""Several targets as one job: calibrated once, each bundle the same as on its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from veca_edge.actions.matrix import export_matrix, precisions_for
from veca_edge.actions.request import ExportRequest
from veca_edge.base.errors import EdgeError


def requests_in(directory, *targets):
    return [
        ExportRequest(directory / t, target=t, core_counts=(8,), precisions=("int8",), measure=False) for t in targets
    ]


def test_two_targets_calibrate_once(short_request, few_images, tmp_path, monkeypatch):
    import veca_edge.actions.export as action
    from veca_edge.bundle.store import verify_files

    calibrated, read = [], []

    def counted(calls, name):
        original = getattr(action, name)
        monkeypatch.setattr(action, name, lambda *args: calls.append(name) or original(*args))

    counted(calibrated, "make_recipe")
    counted(read, "choose_images")
    asked = requests_in(tmp_path, "cpu", "jetson")
    images = replace(short_request.images, count=8, evaluation=few_images)
    sources = {"checkpoint": short_request.checkpoint, "images": images, "image_sizes": short_request.image_sizes}
    cpu, jetson = export_matrix([replace(request, **sources) for request in asked])
    assert len(calibrated) == len(read) == 1
    assert (cpu.bundle.spec.target, jetson.bundle.spec.target) == ("cpu", "jetson")
    for made in (cpu, jetson):
        assert verify_files(made.bundle) > 0
        assert made.fidelity[0].reference.lowest_mean > 0.99
    recipes = [(made.bundle.directory / made.bundle.recipe).read_bytes() for made in (cpu, jetson)]
    assert recipes[0] == recipes[1]


def test_what_is_no_one_job(tmp_path):
    one, other = requests_in(tmp_path, "cpu", "jetson")
    with pytest.raises(EdgeError, match="differ in their core counts"):
        list(export_matrix([one, replace(other, core_counts=(16,))]))
    with pytest.raises(EdgeError, match="write the same bundle"):
        list(export_matrix([one, replace(other, output=one.output)]))
    with pytest.raises(EdgeError, match="has no precision 'fp64'"):
        list(export_matrix([one, replace(other, precisions=("fp64",))]))
    assert not list(tmp_path.iterdir())


def test_each_target_takes_its_own_precisions():
    assert precisions_for("cpu", ("int8", "fp32")) == ("int8", "fp32")
    assert precisions_for("cpu", ("w8", "fp32")) == ("fp32",)
    assert precisions_for("cpu", ()) == ()
    with pytest.raises(EdgeError, match="has none of the precisions w8"):
        precisions_for("cpu", ("w8",))
