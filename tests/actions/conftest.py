"""One bundle of the demo model for all actions."""

from __future__ import annotations

import pytest

from veca_edge.actions.export import export
from veca_edge.actions.request import ExportRequest


@pytest.fixture(scope="session")
def result(tmp_path_factory):
    output = tmp_path_factory.mktemp("pipeline") / "bundle"
    return export(ExportRequest(output, core_counts=(8, 16), precisions=("int8", "fp32"), measure=False))
