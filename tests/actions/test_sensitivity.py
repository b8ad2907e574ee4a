"""What quantizing each layer alone does."""

from __future__ import annotations

from pathlib import Path

from veca_edge.actions.request import ExportRequest
from veca_edge.actions.sensitivity import sensitivity


def test_sensitivity_ranks_the_layers_of_a_bundle(result):
    found = sensitivity(ExportRequest(Path(), core_counts=()), bundle=result.bundle.directory, count=8)
    assert len(found.layers) == 24
    assert found.core_counts == (8, 16)
    assert all(0 <= layer.loss < 0.01 for layer in found.layers)
    assert abs(sum(layer.share for layer in found.layers) - 1) < 1e-6
