"""An extra brings what its target imports: an export runs where nothing else of this environment can be imported."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_packaging import PYPROJECT

from veca_edge.demo import demo_calibration
from veca_edge.model.checkpoint import random_checkpoint, save_safetensors
from veca_edge.model.config import Family

pytest.importorskip("ai_edge_litert")

# Runs the command line in a process in which some modules cannot be imported.
WITHOUT = """
import sys
absent = set(sys.argv.pop(1).split(","))
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Absent())
from veca_edge.cli import main
main()
"""


def project() -> dict:
    try:
        import tomllib
    except ModuleNotFoundError:
        import tomli as tomllib
    return tomllib.loads(PYPROJECT.read_text())["project"]


def brought_by(extra: str) -> set[str]:
    """The packages that `pip install veca-edge[extra]` installs, by what is installed here."""
    extras, seen = project()["optional-dependencies"], set()

    def follow(text: str, asked: str = "") -> Iterator[str]:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": asked}):
            return
        name = canonicalize_name(wanted.name)
        if name == "veca-edge":
            for inner in wanted.extras:
                for line in extras[inner]:
                    yield from follow(line)
        elif (name, *sorted(wanted.extras)) not in seen:
            seen.add((name, *sorted(wanted.extras)))
            yield name
            for line in importlib.metadata.requires(name) or ():
                for inner in ("", *wanted.extras):
                    yield from follow(line, inner)

    return {name for line in (*project()["dependencies"], *extras[extra]) for name in follow(line)}


@pytest.mark.parametrize("extra", ["android"])
def test_an_export_imports_nothing_else(extra, tmp_path):
    brought = brought_by(extra)
    assert {"torch", "ai-edge-litert", "numpy", "typer"} <= brought
    absent = {
        module
        for module, packages in importlib.metadata.packages_distributions().items()
        if not {canonicalize_name(name) for name in packages} & (brought | {"veca-edge"})
    }
    assert "pytest" in absent
    checkpoint, few = tmp_path / "tiny.safetensors", tmp_path / "images"
    save_safetensors(random_checkpoint(Family("small", 1, 32, 1, 2.0).config()), checkpoint)
    few.mkdir()
    for path in sorted(demo_calibration().rglob("*.jpg"))[:24]:
        shutil.copy(path, few)
    words = ("--target", extra, "--cores", "8", "--image-size", "32", "--min-cosine", "-1", "--calibration", str(few))
    more = ("--calibration-count", "12", "--output", str(tmp_path / "bundle"))
    command = [sys.executable, "-c", WITHOUT, ",".join(sorted(absent)), "export", str(checkpoint), *words, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundle/models/veca_int8.tflite").is_file()
