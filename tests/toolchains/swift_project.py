"""What compiles and runs a generated iOS project on Linux: Debian's Swift, with stand-ins for Apple's frameworks.

The stand-ins (`swift/stubs`) state the public signatures that the package uses. The stand-in for `MLModel` hands every
frame to veca-edge's own executor of saved packages (`swift/executor.py`), so this shows that package and tests are
right, not what Core ML computes. docs/apps.md says what is proven by it.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from products import made_or_kept

from . import roots
from .swift.executor import executor

FRAMEWORKS = ("CoreVideo", "os", "CoreImage", "CoreGraphics", "CoreML", "AVFoundation", "SwiftUI")
# Those that import the one before all.
ALONE = ("CoreVideo", "os")
MODES = {
    "5": ["-swift-version", "5"],
    "complete": ["-swift-version", "5", "-strict-concurrency=complete"],
    "6": ["-swift-version", "6"],
}
BUILT = "VecaPackageTests.xctest"
SECONDS = 1500


@dataclass(frozen=True)
class Swift:
    """A Swift root, and the folder that is /work in it: the package of a project in `package`, its app in `ios/App`."""

    root: Path
    work: Path

    def run(self, command: Sequence[str], folder: str = "/work") -> subprocess.CompletedProcess[str]:
        # The executor leaves the root through /host: the stand-in's predictions are made by this Python.
        seen = [(Path("/"), "host"), (roots.HERE / "swift/stubs", "stubs")]
        environment = ["env", "-C", folder, "VECA_STAND_IN_EXECUTOR=/work/executor"]
        command = roots.entering(self.root, self.work, seen, [*environment, *command])
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)

    def compiled(self, command: Sequence[str]) -> None:
        """Runs a compiler: any warning is an error."""
        ended = self.run(command)
        assert ended.returncode == 0, ended.stdout
        assert not re.search(r"(warning|error):", ended.stdout), ended.stdout

    def sources(self, folder: str) -> list[str]:
        """The sources of a module; SwiftPM makes `resources.swift` of a target's resources."""
        found = sorted((self.work / folder).rglob("*.swift"))
        return ["resources.swift", *(str(path.relative_to(self.work)) for path in found)]

    def built(self, output: str) -> subprocess.CompletedProcess[str]:
        """Lets SwiftPM build the package's tests into a folder, with the resources that they read beside themselves."""
        ended = self.run(BUILD, "/work/package")
        assert ended.returncode == 0, ended.stdout
        (self.work / output).mkdir()
        made = self.work / "package/.build/debug"
        shutil.copy2(made / BUILT, self.work / output)
        for resources in made.glob("*.resources"):
            shutil.copytree(resources, self.work / output / resources.name)
        return ended

    def run_tests(self, output: str, *selection: str) -> subprocess.CompletedProcess[str]:
        """Runs tests that were built, or a selection of them."""
        selected = [",".join(selection)] if selection else []
        with executor(self.work):
            return self.run([f"/work/{output}/{BUILT}", *selected], "/work/package")


def swift_project(root: Path, work: Path) -> Swift:
    """What lies beside a project in /work: the compiled frameworks."""
    (work / "resources.swift").write_text("import Foundation\nextension Bundle { static let module = Bundle.main }\n")
    made = Swift(root, work)
    commands = [framework(name) for name in FRAMEWORKS]

    def make() -> None:
        (work / "frameworks").mkdir()
        for command in commands:
            made.compiled(command)

    inputs = [*map(" ".join, commands), roots.HERE / "swift/stubs"]
    made_or_kept(root, "swift-frameworks", inputs, [work / "frameworks"], make)
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


def build_command() -> list[str]:
    options = ["--disable-sandbox", "-Xswiftc", "-I/work/frameworks", "-Xlinker", "-L/work/frameworks"]
    options += ["-Xlinker", "-rpath", "-Xlinker", "/work/frameworks"]
    for name in sorted(set(FRAMEWORKS) - {"SwiftUI"}):  # the package's tests have no app
        options += ["-Xlinker", f"-l{name}"]
    return ["/usr/libexec/swift/bin/swift-build", "--build-tests", *options]


BUILD = build_command()
