"""A real export may be killed at any moment, too: a whole bundle is in place, and the next export cleans up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Each of them takes half a minute of CPU time; `tests/bundle` kills at each of those that put a bundle in place.
EVERY = 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_in_an_export(tmp_path):
    script = Path(__file__).with_name("killed_export.py")
    done = subprocess.run([sys.executable, script, tmp_path, str(EVERY)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    operations, kept = map(int, done.stdout.split())
    # If there seem to be fewer, they are not seen.
    assert operations >= 30
    assert kept >= 3
