"""An export may be killed at any moment: the old bundle is there or the new one, whole, and the next run cleans up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("kind", "names", "operations"),
    [("first", "exchange", 17), ("replace", "exchange", 24), ("replace", "renames", 25)],
)
def test_killed_at_every_operation(tmp_path, kind, names, operations):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed.py")), str(tmp_path), kind, names],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # If there seem to be fewer, they are not seen.
    assert int(done.stdout) >= operations
