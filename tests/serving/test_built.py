"""The page's sources: checked, tested against the golden vectors, and the same as what is committed of their build."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from products import made_or_kept
from toolchains.roots import cache

from veca_edge.apps.golden_vectors import write_golden_vectors
from veca_edge.serving.page import BUILT

from .conftest import npm_versions


def ran(folder: Path, *words: str, **variables: str) -> str:
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def made_of(web: Path, step: str, inputs: list[Path], output: Path, make: Callable[[], object]) -> None:
    """Lets npm make a file or folder of the page's sources, unless it did before from the same."""
    sources = sorted(path for path in web.iterdir() if path.name != "node_modules" and not path.name.startswith("."))
    made_or_kept(cache() / "npm", step, [npm_versions(), *sources, *inputs], [output], make)


def test_types_lint_and_golden_vectors(web_modules, tmp_path):
    """What they said of the same sources they would say again: that they found nothing is kept."""
    vectors, said = tmp_path / "vectors", tmp_path / "said"
    write_golden_vectors(vectors)

    def check() -> None:
        said.write_text(ran(web_modules, "npm", "run", "check", VECA_EDGE_VECTORS=str(vectors)))

    made_of(web_modules, "checked", [vectors], said, check)
    assert re.search(r"Tests .*\d+ passed", said.read_text())


def test_the_committed_build_is_that_of_the_sources(web_modules, tmp_path):
    """Compressed files are compared as they are unpacked: compressors differ by their version."""
    import gzip

    output = tmp_path / "built"
    made_of(
        web_modules, "built", [], output, lambda: ran(web_modules, "npm", "run", "build", VECA_EDGE_WEB_OUT=str(output))
    )

    def contents(folder: Path) -> dict[str, bytes]:
        found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return {name: gzip.decompress(data) if name.endswith(".gz") else data for name, data in found.items()}

    built, committed = contents(output), contents(BUILT)
    assert built.keys() == committed.keys(), "build it again: npm run build in web/"
    assert [name for name in built if built[name] != committed[name]] == [], "build it again: npm run build in web/"


def test_the_page_is_small():
    """What a browser gets of ours, everything included but ONNX Runtime, is less than a megabyte."""
    sizes = {p.name: p.stat().st_size for p in BUILT.rglob("*") if p.is_file()}
    runtime = {name for name in sizes if name.startswith("ort")}
    assert len(runtime) == 6, "two builds, each of a module, its threads and its WebAssembly"
    assert len(sizes.keys() - runtime) > 8
    assert sum(size for name, size in sizes.items() if name not in runtime) < 1_000_000


def test_the_licences_are_there():
    text = (BUILT / "licenses.txt").read_text()
    assert "MIT License" in text
    assert "onnxruntime-web 1.30.0" in text
