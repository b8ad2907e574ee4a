"""What quantizing each layer alone does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from veca_edge.actions.request import ExportRequest
from veca_edge.actions.sensitivity import sensitivity
from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize


def test_sensitivity_ranks_the_layers_of_a_bundle(result):
    found = sensitivity(ExportRequest(Path(), core_counts=()), bundle=result.bundle.directory, count=4)
    assert len(found.layers) == 24
    assert found.core_counts == (8, 16)
    assert all(0 <= layer.loss < 0.01 for layer in found.layers)
    assert abs(sum(layer.share for layer in found.layers) - 1) < 1e-6


def test_a_size_that_the_bundle_does_not_have_is_refused(result):
    """It was measured at the bundle's own, and said to be what was asked for."""
    asked = ExportRequest(Path(), core_counts=(8,), image_sizes=(ImageSize(64, 64),))
    with pytest.raises(EdgeError, match="has no models of 64x64"):
        sensitivity(asked, bundle=result.bundle.directory, count=1)


def test_a_recipe_that_was_changed_is_not_measured(result, tmp_path):
    changed = shutil.copytree(result.bundle.directory, tmp_path / "changed")
    recipe = changed / "recipe.safetensors"
    content = bytearray(recipe.read_bytes())
    content[-1] ^= 1
    recipe.write_bytes(content)
    with pytest.raises(EdgeError, match=r"is not what was exported; changed: recipe\.safetensors"):
        sensitivity(ExportRequest(Path(), core_counts=(8,)), bundle=changed, count=1)


def test_by_what_a_task_says(result):
    """The demo has a segmentation head; a loss of mIoU is another than one of cosines."""
    request = ExportRequest(Path(), core_counts=(8,))
    found = sensitivity(request, bundle=result.bundle.directory, count=4, by="miou")
    losses = [layer.loss_by("miou") for layer in found.layers]
    assert any(losses)
    assert all(0 <= loss < 0.5 for loss in losses)
    with pytest.raises(EdgeError, match="no head for depth"):
        sensitivity(request, bundle=result.bundle.directory, by="depth")
    with pytest.raises(EdgeError, match="'beauty'"):
        sensitivity(request, bundle=result.bundle.directory, by="beauty")
