"""One bundle of the demo model for all actions."""

from __future__ import annotations

import pytest
from once import made_once

from veca_edge.actions.export import export
from veca_edge.actions.request import ExportRequest


@pytest.fixture(scope="session")
def result(tmp_path_factory):
    """What an export of it returned. Read only."""

    def made(folder):
        return export(ExportRequest(folder / "bundle", core_counts=(8, 16), precisions=("int8", "fp32"), measure=False))

    return made_once(tmp_path_factory, "demo", made)
