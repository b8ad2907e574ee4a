"""What compiles and runs a generated Android project on Linux, without a phone: the real Kotlin compiler.

`core` is compiled as it is. `veca`, `app` and the instrumented tests are compiled against stand-ins (`kotlin/stubs`) of
the public interfaces that they use; the stand-in for LiteRT hands every frame to LiteRT's own interpreter, so
`GoldenTest` and `Benchmark` really run the file. docs/apps.md says what is proven by it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from products import made_or_kept

from veca_edge.apps.android import FRAMES, MODELS

from . import roots

SECONDS = 1200
# For processes that end soon: one thread, and no time for code that is compiled better.
JAVA = ("java", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
CORE_TESTS = ("GoldenVectorsTest", "CoreControlTest", "BundleTest")
# Class paths below the work folder.
RESOURCES = "project/core/src/main/resources"
CORE = ("core", RESOURCES, "project/core/src/test/resources")
APP = ("app", "core", "stubs", RESOURCES)


@dataclass(frozen=True)
class Kotlin:
    """A Kotlin compiler with the jars of its tests, and a folder with a generated project and its compiled classes."""

    root: Path
    work: Path

    @property
    def project(self) -> Path:
        return self.work / "project"

    @property
    def jars(self) -> str:
        debian, kotlin = self.root / "debian/usr/share/java", self.root / "node_modules/kotlin-compiler/lib"
        names = [debian / f"{name}.jar" for name in ("junit4", "hamcrest", "json-latest")]
        return os.pathsep.join(map(str, [*names, kotlin / "kotlin-stdlib.jar"]))

    def path(self, *folders: str) -> str:
        """A class path of folders in the work folder, and the jars."""
        return os.pathsep.join([*(str(self.work / folder) for folder in folders), self.jars])

    def compiled(self, output: str, sources: Sequence[Path], *classes: str, friend: str = "") -> None:
        """Compiles sources, unless these were compiled before; any warning is an error.

        Args:
            friend: the one of `classes` whose internal names are seen too.
        """
        compiler = self.root / "node_modules/kotlin-compiler/lib/kotlin-compiler.jar"
        command = [*JAVA, "-cp", str(compiler), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
        command += ["-no-stdlib", "-no-reflect", "-jvm-target", "17", "-Werror", "-Wextra"]
        if friend:
            command.append(f"-Xfriend-paths={self.work / friend}")

        def make() -> None:
            ended = run([*command, "-cp", self.path(*classes), "-d", str(self.work / output), *map(str, sources)])
            assert ended.returncode == 0, ended.stdout
            assert "warning:" not in ended.stdout, ended.stdout

        inputs = [
            java(),
            " ".join(command[1:]).replace(str(self.work), ""),
            *sources,
            *(self.work / c for c in classes),
        ]
        made_or_kept(self.root, f"kotlin-{output}", inputs, [self.work / output], make)

    def compile_core(self) -> None:
        """The module `core` with its tests."""
        self.compiled("core", sources(self.project / "core/src"))

    def compile_app(self) -> None:
        """The modules `veca` and `app` with the instrumented tests, and what a phone has of them."""
        self.compiled("stubs", sources(roots.HERE / "kotlin/stubs"))
        self.compiled("app", sources(self.project / "veca/src/main", self.project / "app/src"), "core", "stubs")
        phone = self.work / "phone"
        shutil.copytree(self.project / MODELS, phone / "assets")
        shutil.copytree(self.project / FRAMES, phone / "test/assets/golden")

    def tested(self, tests: Sequence[str], *classes: str, **properties: object) -> subprocess.CompletedProcess[str]:
        """Runs JUnit tests; properties are those of the system, with dots for underscores."""
        given = [f"-D{name.replace('_', '.', 1)}={value}" for name, value in properties.items()]
        return run([*JAVA, *given, "-cp", self.path(*classes), "org.junit.runner.JUnitCore", *tests])

    def core_tested(self) -> subprocess.CompletedProcess[str]:
        return self.tested([f"veca.core.{name}" for name in CORE_TESTS], *CORE)

    def on_phone(self, test: str, *before: str, **arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs an instrumented test; class paths of `before` come before the app's."""
        given = {f"veca_argument.{name}": value for name, value in arguments.items()}
        executor = f"{sys.executable} {roots.HERE / 'kotlin/executor.py'}"
        return self.tested([test], *before, *APP, veca_phone=self.work / "phone", veca_executor=executor, **given)


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)


def java() -> str:
    """The version of Java whose classes are compiled against."""
    return run(["java", "-version"]).stdout


def sources(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.kt"))
