"""The Swift package compiled, and its tests run, on Linux; `swift_project.py` says how."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from bundles import AWKWARD_LABELS, bundle_around
from products import made_or_kept

from veca_edge.apps.base import App
from veca_edge.apps.ios import PACKAGE, write_ios
from veca_edge.bundle.types import BundleDetails
from veca_edge.proof.golden import write_golden
from veca_edge.runtime.program import open_mlpackage

from . import roots
from .swift_project import BUILD, MODES, Swift, module, swift_project

SIZE = (32, 48)


@pytest.fixture(scope="module")
def swift(swift_root, apple_packages, tmp_path_factory) -> Swift:
    """The iOS project of `apple_packages` in FP16: /work/ios, its package /work/package, and the compiled stand-ins."""
    source, artifacts, _ = apple_packages
    work = tmp_path_factory.mktemp("swift")
    bundle = work / "bundle"
    chosen = artifacts["fp16"]
    for path in {a.path for a in chosen}:
        shutil.copytree(source / path, bundle / path)
    frames = np.random.default_rng(3).integers(0, 256, (2, *SIZE, 3), np.uint8)
    for artifact in chosen:
        run = open_mlpackage(source / artifact.path, artifact.function, artifact)
        outputs = [run(frame[None]) for frame in frames]
        golden = {name: np.concatenate([o[name] for o in outputs]) for name in artifact.outputs}
        write_golden(bundle, artifact.core_count, artifact.image_size, frames, golden)
    whole = bundle_around(bundle, chosen, labels=AWKWARD_LABELS, details=BundleDetails({a.name: 1.0 for a in chosen}))
    (work / "ios").mkdir()
    write_ios(App('An "app" \\(x) \U0001f4f7', whole, tuple(chosen)), work / "ios")
    (work / "ios" / PACKAGE).rename(work / "package")
    shutil.copy(roots.HERE / "swift/tests/StandInTests.swift", work / "package/Tests/VecaTests")
    return swift_project(swift_root, work)


def made_of(swift: Swift, folder: str, commands: Sequence[Sequence[str]], make: Callable[[], object]) -> None:
    """Lets commands fill a folder, unless they did before from the same sources."""
    names = dict.fromkeys(word for command in commands for word in command if word.endswith(".swift"))
    inputs = [*map(" ".join, commands), *(swift.work / name for name in names), roots.HERE / "swift/stubs"]
    (swift.work / folder).mkdir()
    made_or_kept(swift.root, f"swift-{folder}", inputs, [swift.work / folder], make)


@pytest.mark.parametrize("mode", MODES)
def test_package_and_tests_compile_without_a_warning(swift, mode):
    folder = f"modules-{mode}"
    package = module("Veca", mode, swift.sources("package/Sources"), folder)
    # With the resources of Xcode's test target; SwiftPM's own are those of the tests that run.
    tests = module("VecaTests", mode, ["ios/Tests/Resources.swift", *swift.sources("package/Tests")[1:]], folder)
    made_of(swift, folder, [package, tests], lambda: [swift.compiled(command) for command in (package, tests)])
    assert (swift.work / folder / "VecaTests.o").stat().st_size > 100_000


def test_apps_in_swift_6_mode(swift):
    """The generated one, and a small one that hands over camera frames; bare buffers are refused."""
    folder = "apps"
    shutil.copytree(roots.HERE / "swift/app", swift.work / "app")
    package = module("Veca", "5", swift.sources("package/Sources"), folder)
    reader = module("App", "6", ["app/CameraReader.swift"], folder)
    camera = module("VecaCamera", "6", swift.sources("ios/App")[1:], folder)
    bare = module("App", "6", ["app/BareBuffer.swift"], folder)

    def make() -> None:
        for command in (package, reader, camera):
            swift.compiled(command)
        refused = swift.run(bare)
        assert refused.returncode != 0
        (swift.work / folder / "refused").write_text(refused.stdout)

    made_of(swift, folder, [package, reader, camera, bare], make)
    refused = (swift.work / folder / "refused").read_text()
    assert "sending 'buffer' risks causing data races" in refused


RIGHT = "right"


def built(swift: Swift, name: str) -> str:
    """A folder with the package's tests as SwiftPM built them.

    One build after the other, because SwiftPM then compiles what changed only.
    """
    output = f"built-{name}"

    def make() -> None:
        said = swift.built(output).stdout
        assert name != RIGHT or not re.search(r"\.swift:\d+:\d+: warning:", said), said

    package = sorted(path for path in (swift.work / "package").iterdir() if path.name != ".build")
    inputs = [" ".join(BUILD), *package, roots.HERE / "swift/stubs"]
    made_or_kept(swift.root, "swift-built", inputs, [swift.work / output], make)
    return output


def test_golden_frames_replay(swift):
    ended = swift.run_tests(built(swift, RIGHT))
    assert ended.returncode == 0, ended.stdout
    for name in ("testEveryVariantAnswersAsTheModelDid", "testOfOverlappingUsesTheLastDecides"):
        assert re.search(rf"{name}' passed", ended.stdout), ended.stdout
    assert "Executed 17 tests, with 0 failures" in ended.stdout


EVERY = "testEveryVariantAnswersAsTheModelDid"
PIXELS = "testPixelsAreThoseOfCalibration"
# What a port gets wrong, in two builds, with the tests that have to see it.
FAULTS = {
    "pipeline": (
        {
            "Sources/Veca/Veca.swift": ("configuration.functionName = function", "_ = function"),
            "Sources/Veca/Governor.swift": ("missed.count < rules.burstMisses", "missed.count <= rules.burstMisses"),
            "Sources/Veca/Picture.swift": ("(from[2], from[1], from[0])", "(from[0], from[1], from[2])"),
        },
        (EVERY, "testTheGovernorChoosesAsRecorded", PIXELS),
    ),
    "frames": (
        {
            "Tests/VecaTests/GoldenTests.swift": ("base[target] = rgb[source + 2]", "base[target] = rgb[source]"),
            "Sources/Veca/FrameGeometry.swift": ("(size.width - box.width) / 2", "(size.width - box.width) / 3"),
        },
        (EVERY, "testFramesGoWhereCalibrationPutThem"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_caught(swift, name):
    faults, tests = FAULTS[name]
    kept = {}
    for file, (right, wrong) in faults.items():
        path = swift.work / "package" / file
        kept[path] = path.read_text()
        assert right in kept[path], file
        path.write_text(kept[path].replace(right, wrong))
    try:
        output = built(swift, name)
    finally:
        for path, text in kept.items():
            path.write_text(text)
    # The other tests of stand-ins wait for functions by name, and would wait in vain.
    selection = ("GoldenTests", "GoldenVectorsTests")
    broken = swift.run_tests(output, *(f"VecaTests.{one}" for one in selection))
    assert broken.returncode != 0
    for test in tests:
        assert re.search(rf"{test}' failed", broken.stdout), broken.stdout
