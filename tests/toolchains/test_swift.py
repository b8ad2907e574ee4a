"""The Swift package compiled, and its tests run, on Linux with stand-ins for Apple's frameworks.

The stand-ins (`swift/stubs`) state the public signatures that the package uses. The stand-in for `MLModel` hands every
frame to veca-edge's own executor of saved packages, so this shows that package and tests are right, not what Core ML
computes. docs/apple.md says what is proven by it.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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

SIZE = (32, 48)
FRAMEWORKS = ("CoreVideo", "os", "CoreImage", "CoreGraphics", "CoreML", "AVFoundation", "SwiftUI")
# Those that import the one before all.
ALONE = ("CoreVideo", "os")
MODES = {
    "5": ["-swift-version", "5"],
    "complete": ["-swift-version", "5", "-strict-concurrency=complete"],
    "6": ["-swift-version", "6"],
}
SECONDS = 800


@dataclass(frozen=True)
class Swift:
    """A Swift root, and the folder that is /work in it."""

    root: Path
    work: Path

    def run(self, command: Sequence[str], folder: str = "/work") -> subprocess.CompletedProcess[str]:
        # The executor's wrapper leaves the root through /host: the stand-in's predictions are made by this Python.
        seen = [(Path("/"), "host"), (roots.HERE / "swift/stubs", "stubs")]
        environment = ["env", "-C", folder, "VECA_STAND_IN_EXECUTOR=/work/executor"]
        command = roots.entering(self.root, self.work, seen, [*environment, *command])
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)

    def compiled(self, command: Sequence[str]) -> None:
        """Runs a compiler: any warning is an error."""
        ended = self.run(command)
        assert ended.returncode == 0, ended.stdout
        assert not re.search(r"(warning|error):", ended.stdout), ended.stdout


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
    # SwiftPM makes this accessor of a target's resources.
    (work / "resources.swift").write_text("import Foundation\nextension Bundle { static let module = Bundle.main }\n")
    executor = work / "executor"
    executor.write_text(
        f"#!/bin/bash\nmodel=$1\nshift\n"
        f"case $model in /tmp/*) model={work}$model ;; /work/*) model={work}${{model#/work}} ;; esac\n"
        f"exec chroot /host /usr/bin/env PYTHONPATH={roots.PROJECT} {sys.executable} "
        f'{roots.HERE}/swift/executor.py "$model" "$@"\n'
    )
    executor.chmod(0o755)
    made = Swift(swift_root, work)
    commands = [framework(name) for name in FRAMEWORKS]

    def make() -> None:
        (work / "frameworks").mkdir()
        for command in commands:
            made.compiled(command)

    inputs = [*map(" ".join, commands), roots.HERE / "swift/stubs"]
    made_or_kept(swift_root, "swift-frameworks", inputs, [work / "frameworks"], make)
    return made


def framework(name: str) -> list[str]:
    """The command that compiles a stand-in."""
    libraries = [] if name in ALONE else ["-lCoreVideo"]
    version = "6" if name == "SwiftUI" else "5"
    return [
        *("swiftc", "-swift-version", version, "-parse-as-library", "-emit-library", "-emit-module"),
        *("-module-name", name, "-I", "frameworks", "-L", "frameworks", *libraries),
        *("-o", f"frameworks/lib{name}.so", f"/stubs/{name}/{name}.swift"),
    ]


def module(name: str, mode: str, sources: Sequence[str], folder: str) -> list[str]:
    """The command that compiles a module whole, down to object code: data races are found behind the type checker."""
    return [
        *("swiftc", "-c", "-wmo", "-parse-as-library", "-enable-testing", "-module-name", name, *MODES[mode]),
        *("-emit-module", "-emit-module-path", f"{folder}/{name}.swiftmodule", "-o", f"{folder}/{name}.o"),
        *("-I", "frameworks", "-I", folder, "-I", f"/usr/libexec/swift/lib/swift/linux/{platform.machine()}"),
        *sources,
    ]


def sources(swift: Swift, folder: str) -> list[str]:
    return ["resources.swift", *(str(p.relative_to(swift.work)) for p in (swift.work / folder).rglob("*.swift"))]


def made_of(swift: Swift, folder: str, commands: Sequence[Sequence[str]], make: Callable[[], object]) -> None:
    """Lets commands fill a folder, unless they did before from the same sources."""
    names = dict.fromkeys(word for command in commands for word in command if word.endswith(".swift"))
    inputs = [*map(" ".join, commands), *(swift.work / name for name in names), roots.HERE / "swift/stubs"]
    (swift.work / folder).mkdir()
    made_or_kept(swift.root, f"swift-{folder}", inputs, [swift.work / folder], make)


@pytest.mark.parametrize("mode", MODES)
def test_package_and_tests_compile_without_a_warning(swift, mode):
    folder = f"modules-{mode}"
    package = module("Veca", mode, sources(swift, "package/Sources"), folder)
    tests = module("VecaTests", mode, sources(swift, "package/Tests"), folder)
    made_of(swift, folder, [package, tests], lambda: [swift.compiled(command) for command in (package, tests)])
    assert (swift.work / folder / "VecaTests.o").stat().st_size > 100_000


def test_apps_in_swift_6_mode(swift):
    """The generated one, and a small one that hands over camera frames; bare buffers are refused."""
    folder = "apps"
    shutil.copytree(roots.HERE / "swift/app", swift.work / "app")
    package = module("Veca", "5", sources(swift, "package/Sources"), folder)
    reader = module("App", "6", ["app/CameraReader.swift"], folder)
    camera = module("VecaCamera", "6", sources(swift, "ios/App")[1:], folder)
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
BUILT = "VecaPackageTests.xctest"


def built(swift: Swift, name: str) -> Path:
    """A folder with the package's tests as SwiftPM built them, and the resources that they read beside themselves.

    One build after the other, because SwiftPM then compiles what changed only.
    """
    options = ["--disable-sandbox", "-Xswiftc", "-I/work/frameworks", "-Xlinker", "-L/work/frameworks"]
    options += ["-Xlinker", "-rpath", "-Xlinker", "/work/frameworks"]
    for framework in sorted(set(FRAMEWORKS) - {"SwiftUI"}):  # the package's tests have no app
        options += ["-Xlinker", f"-l{framework}"]
    command, output = ["/usr/libexec/swift/bin/swift-build", "--build-tests", *options], swift.work / f"built-{name}"

    def make() -> None:
        ended = swift.run(command, "/work/package")
        assert ended.returncode == 0, ended.stdout
        assert name != RIGHT or not re.search(r"\.swift:\d+:\d+: warning:", ended.stdout), ended.stdout
        output.mkdir()
        made = swift.work / "package/.build/debug"
        shutil.copy2(made / BUILT, output)
        for resources in made.glob("*.resources"):
            shutil.copytree(resources, output / resources.name)

    package = sorted(path for path in (swift.work / "package").iterdir() if path.name != ".build")
    inputs = [" ".join(command), *package, roots.HERE / "swift/stubs"]
    made_or_kept(swift.root, "swift-built", inputs, [output], make)
    return output


def run_tests(swift: Swift, name: str, *selection: str) -> subprocess.CompletedProcess[str]:
    """Runs the tests that were built, or a selection of them."""
    selected = [",".join(selection)] if selection else []
    return swift.run([f"/work/built-{name}/{BUILT}", *selected], "/work/package")


def test_golden_frames_replay(swift):
    built(swift, RIGHT)
    ended = run_tests(swift, RIGHT)
    assert ended.returncode == 0, ended.stdout
    for name in ("testEveryVariantAnswersAsTheModelDid", "testOfOverlappingUsesTheLastDecides"):
        assert re.search(rf"{name}' passed", ended.stdout), ended.stdout
    assert "Executed 17 tests, with 0 failures" in ended.stdout


EVERY = "testEveryVariantAnswersAsTheModelDid"
FITTED = "testFittedFramesAreThoseOfCalibration"
# What a port gets wrong, in two builds, with the tests that have to see it.
FAULTS = {
    "pipeline": (
        {
            "Sources/Veca/Veca.swift": ("configuration.functionName = function", "_ = function"),
            "Sources/Veca/Governor.swift": ("missed.count < rules.burstMisses", "missed.count <= rules.burstMisses"),
            "Sources/Veca/Picture.swift": ("(from[2], from[1], from[0])", "(from[0], from[1], from[2])"),
        },
        (EVERY, "testTheGovernorChoosesAsRecorded", FITTED),
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
        built(swift, name)
    finally:
        for path, text in kept.items():
            path.write_text(text)
    # The other tests of stand-ins wait for functions by name, and would wait in vain.
    selection = ("GoldenTests", "GoldenVectorsTests", f"StandInTests/{FITTED}")
    broken = run_tests(swift, name, *(f"VecaTests.{one}" for one in selection))
    assert broken.returncode != 0
    for test in tests:
        assert re.search(rf"{test}' failed", broken.stdout), broken.stdout
