"""What the machine keeps true of the code: lint, format, types. Each tool runs as it does for a developer."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from products import made_or_kept
from toolchains.roots import cache

ROOT = Path(__file__).parents[1]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_ruff_finds_nothing():
    done = run("ruff", "check", ".")
    assert done.returncode == 0, done.stdout


def test_every_file_is_formatted():
    done = run("ruff", "format", "--check", ".")
    assert done.returncode == 0, done.stdout


def test_the_type_checker_finds_nothing(tmp_path):
    """What it said of the same sources, beside the same packages, it would say again: that it found nothing is kept."""
    pytest.importorskip("basedpyright", reason="basedpyright is not installed: pip install -e '.[dev]'")
    packages = sorted({f"{d.name} {d.version}" for d in distributions()})
    checked = tmp_path / "checked.json"

    def check() -> None:
        done = run("basedpyright", "--outputjson", "veca_edge")
        found = json.loads(done.stdout)
        errors = [
            f"{f['file']}:{f['range']['start']['line'] + 1}: {f['message']}"
            for f in found["generalDiagnostics"]
            if f["severity"] == "error"
        ]
        assert not errors, "\n".join(errors)
        checked.write_text(json.dumps(found["summary"]))

    inputs = [sys.version, *packages, ROOT / "pyproject.toml", ROOT / "typings", ROOT / "veca_edge"]
    made_or_kept(cache() / "types", "checked", inputs, [checked], check)
    assert json.loads(checked.read_text())["filesAnalyzed"] > 100
