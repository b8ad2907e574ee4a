"""A small bundle for every test that needs one of its own."""

import pytest

from veca_edge.bundle.new_bundle import new_bundle
from veca_edge.bundle.store import open_bundle
from veca_edge.bundle.types import Bundle

from .small_bundles import fill


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    with new_bundle(tmp_path / "out") as directory:
        fill(directory)
    return open_bundle(tmp_path / "out")
