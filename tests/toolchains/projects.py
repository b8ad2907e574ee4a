"""Generated projects, of any model, built and tested as their READMEs say: what `python -m benchmarks.apps` runs.

    VECA_EDGE_PROJECTS=FOLDER pytest -n 0 tests/toolchains/projects.py

takes FOLDER/app-PLATFORM, made of FOLDER/bundle-PLATFORM, for `ios`, `android` and `jetson`. Not collected with the
other tests, whose models are small.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from veca_edge.apps.ios import PACKAGE
from veca_edge.bundle.store import open_bundle

from .jetson_project import ONNXRUNTIME, jetson_project
from .kotlin_project import Kotlin
from .swift_project import module, swift_project


@pytest.fixture
def projects() -> Path:
    given = os.environ.get("VECA_EDGE_PROJECTS")
    if given is None:
        pytest.skip("no projects: set VECA_EDGE_PROJECTS, as python -m benchmarks.apps does")
    return Path(given)


def project(projects: Path, platform: str) -> Path:
    folder = projects / f"app-{platform}"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def test_ios(projects, swift_root, tmp_path):
    """The app in Swift 6 mode, and `swift test` in the package."""
    shutil.copytree(project(projects, "ios"), tmp_path / "ios")
    (tmp_path / "ios" / PACKAGE).rename(tmp_path / "package")
    swift = swift_project(swift_root, tmp_path)
    (tmp_path / "modules").mkdir()
    for name, mode, folder in (("Veca", "6", "package/Sources"), ("VecaCamera", "6", "ios/App")):
        sources = swift.sources(folder)
        swift.compiled(module(name, mode, sources if name == "Veca" else sources[1:], "modules"))
    said = swift.built("built").stdout
    assert not re.search(r"\.swift:\d+:\d+: warning:", said), said
    ended = swift.run_tests("built")
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"Executed \d+ tests, with 0 failures", ended.stdout), ended.stdout
    print(ended.stdout)


def test_android(projects, kotlin_root, tmp_path):
    """`core` and its JUnit tests; the app against stand-ins, and `GoldenTest`."""
    kotlin = Kotlin(kotlin_root, tmp_path)
    shutil.copytree(project(projects, "android"), kotlin.project)
    kotlin.compile_core()
    ended = kotlin.core_tested()
    assert ended.returncode == 0, ended.stdout
    kotlin.compile_app()
    golden = kotlin.on_phone("veca.camera.GoldenTest")
    assert golden.returncode == 0, golden.stdout
    print(ended.stdout, golden.stdout)


def test_jetson(projects, jetson_root, tmp_path):
    """What "On any other Linux machine" says, the project's tests, and the outputs of `veca-edge run`."""
    shutil.copytree(project(projects, "jetson"), tmp_path / "app")
    board = jetson_project(jetson_root, tmp_path, open_bundle(projects / "bundle-jetson"))
    # CMake's first words are of tests and threads that it looks for; a compiler's warning ends the build.
    said = board.run(f"cmake -S app -B build {ONNXRUNTIME} && cmake --build build")
    assert "warning:" not in said, said
    said = board.run("cd build && ctest --output-on-failure")
    assert "100% tests passed, 0 tests failed out of 2" in said
    board.assert_outputs_are_those_of_run()
    said += board.run("cd app && ../build/veca_app --source test://30 --output out.mp4 && ls -s out.mp4")
    assert re.search(r"^30 frames in", said, re.MULTILINE), said
    print(said)
