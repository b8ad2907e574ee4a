"""Whether a bundle is still what was exported."""

from __future__ import annotations

import shutil

import pytest

from veca_edge.actions.verify import verify
from veca_edge.base.errors import EdgeError


def test_verify_accepts_the_bundle_and_refuses_a_changed_one(result, tmp_path):
    assert all(check.ok for check in verify(result.bundle.directory))
    copy = tmp_path / "copy"
    shutil.copytree(result.bundle.directory, copy)
    weights = copy / "models" / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(EdgeError, match=r"weights\.bin"):
        verify(copy)
