"""A build may be killed at any moment: the bundle is whole, and the next build ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_operation(tmp_path):
    script = Path(__file__).with_name("killed_build.py")
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    # If there seem to be fewer, they are not seen.
    assert int(done.stdout) >= 20
