"""Builds an engine anew, with other options, and kills that at each of its file-system operations in turn.

Started by `test_killed_build.py` in a process of its own: `python killed_build.py DIRECTORY`. The board is this
process: what it builds says with which options. Prints how many operations there were.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import killing  # noqa: I001

import shutil
from contextlib import contextmanager
from pathlib import Path

from standin.fixtures import write_bundle, write_model

from veca_edge.base.files import files_below, is_aside
from veca_edge.bundle.store import open_bundle, verify_files
from veca_edge.converters.tensorrt import engine
from veca_edge.converters.tensorrt.options import EngineOptions
from veca_edge.devices.connection import LocalConnection, _copy_whole
from veca_edge.devices.jetson import probe
from veca_edge.devices.jetson.probe import Board, ConnectedBoard
from veca_edge.targets import jetson

BOARD = Board(
    "orin", "aarch64", "5.15", 6, "Orin", None, "8.7", "36.4.3", "10.3.0", "12.6", "/usr/bin/trtexec", None, None,
    "MAXN", None, 8 << 30, 8 << 30, 8 << 30, None, False, "0" * 12,
)  # fmt: skip
root = Path(sys.argv[1])
built = root / "built"


def run_job(connection, job, on_log, **how) -> int:
    script = job.script
    built.write_text(script)
    on_log("\n".join([script, "Engine built in 1.5 sec"]))
    return 0


@contextmanager
def open_board(device):
    yield ConnectedBoard(LocalConnection(), BOARD)


engine.run_job = run_job
engine.jobs.read = lambda connection, job, name: b'{"Layers": []}' + built.read_bytes()
engine.jobs.fetch = lambda connection, job, name, destination, most_bytes: _copy_whole(built, destination)
engine.jobs.remove = lambda connection, job: None
probe.open_board = open_board


def build(directory: Path, level: int) -> None:
    jetson.build(open_bundle(directory), "local", EngineOptions(level=level), lambda *step: None, lambda line: None)


def level_of(directory: Path) -> int | None:
    """With which options the engine in the bundle was built, which is whole; None where it has none."""
    bundle = open_bundle(directory)
    engines = [a for a in bundle.artifacts if a.format == "engine"]
    assert verify_files(bundle) == (5 if engines else 1)
    if not engines:
        return None
    [made] = engines
    text = (directory / made.path).read_text()
    level = made.details["level"]
    assert f"--builderOptimizationLevel={level}" in text
    assert text in (directory / made.details["log"]).read_text()
    return level


def main() -> None:
    template = root / "template"
    write_bundle(template, [write_model(template)])
    build(template, 1)
    assert level_of(template) == 1
    directory = template

    def prepare(step: int) -> None:
        nonlocal directory
        directory = root / str(step)
        shutil.copytree(template, directory)

    found, seen = set(), []

    def check(ended: bool) -> None:
        level = level_of(directory)
        found.add(level)
        half = [file for file in files_below(directory) if is_aside(file)]
        seen.extend(half)
        for file in half:
            os.utime(file, (0, 0))  # as if the next build came a while later
        build(directory, 2)
        assert level_of(directory) == 2
        assert not [file for file in files_below(directory) if is_aside(file)]
        assert not ended or level == 2

    steps = killing.killed_at_each(prepare, lambda: build(directory, 2), check)
    assert found == {1, None, 2}
    names = [file.name for file in seen]
    assert any(name.endswith(".part") for name in names)
    assert any(name.startswith(".manifest.json.") for name in names)
    print(steps)


main()
