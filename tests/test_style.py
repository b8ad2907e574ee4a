"""What the machine keeps true of the code: lint, format, types. Each tool runs as it does for a developer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_ruff_finds_nothing():
    done = run("ruff", "check", ".")
    assert done.returncode == 0, done.stdout


def test_every_file_is_formatted():
    done = run("ruff", "format", "--check", ".")
    assert done.returncode == 0, done.stdout


def test_the_type_checker_finds_nothing():
    pytest.importorskip("basedpyright", reason="basedpyright is not installed: pip install -e '.[dev]'")
    done = run("basedpyright", "--outputjson", "veca_edge")
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [
        f"{f['file']}:{f['range']['start']['line'] + 1}: {f['message']}" for f in found if f["severity"] == "error"
    ]
    assert not errors, "\n".join(errors)
