"""One bundle of the demo model for all actions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from once import made_once

from veca_edge.actions.export import export
from veca_edge.actions.request import ExportRequest, ImageSource


@pytest.fixture(scope="session")
def result(tmp_path_factory):
    """What an export of it returned. Read only."""

    def made(folder):
        request = ExportRequest(folder / "bundle", images=ImageSource(count=32), core_counts=(8, 16), measure=False)
        return export(replace(request, precisions=("int8", "fp32")))

    return made_once(tmp_path_factory, "demo", made)
