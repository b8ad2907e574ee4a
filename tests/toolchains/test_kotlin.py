"""The Android project compiled by the real Kotlin compiler, and its tests run, without a phone.

`core` is compiled and tested as it is. `veca`, `app` and the instrumented tests are compiled against stand-ins
(`kotlin/stubs`) of the public interfaces that they use; the stand-in for LiteRT hands every frame to LiteRT's own
interpreter, so `GoldenTest` and `Benchmark` really run the file. docs/apps.md says what is proven by it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from products import made_or_kept

from veca_edge.apps.android import FRAMES, MODELS, VALUES, VECTORS, write_android
from veca_edge.apps.base import App
from veca_edge.base.errors import EdgeError
from veca_edge.profiles.android.results import read_result

from . import roots

SECONDS = 300
# For processes that end soon: one thread, and no time for code that is compiled better.
JAVA = ("java", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
CORE_TESTS = ("GoldenVectorsTest", "CoreControlTest", "BundleTest")
# What a port gets wrong, by the file it is in: one change each.
BREAKS = {
    "Resampling.kt": ("narrow[at + x * 3] = byte(red)", "narrow[at + x * 3] = byte(blue)"),
    "FrameGeometry.kt": ("(frame.width - width).floorDiv(2)", "0"),
    "Governor.kt": ("missed.size < rules.burstMisses", "missed.size <= rules.burstMisses"),
}


@dataclass(frozen=True)
class Kotlin:
    """A Kotlin compiler with the jars of its tests, and a generated project with its compiled classes."""

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

    def tested(self, tests: Sequence[str], *classes: str, **properties: object) -> subprocess.CompletedProcess[str]:
        """Runs JUnit tests; properties are those of the system, with dots for underscores."""
        given = [f"-D{name.replace('_', '.', 1)}={value}" for name, value in properties.items()]
        return run([*JAVA, *given, "-cp", self.path(*classes), "org.junit.runner.JUnitCore", *tests])


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)


def java() -> str:
    """The version of Java whose classes are compiled against."""
    return run(["java", "-version"]).stdout


def sources(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.kt"))


@pytest.fixture(scope="module")
def kotlin(kotlin_root, android_app, tmp_path_factory) -> Kotlin:
    """The project of `android_app` with an awkward name, and its core and the core's tests compiled."""
    made = Kotlin(kotlin_root, tmp_path_factory.mktemp("kotlin"))
    made.project.mkdir()
    write_android(android_app, made.project)
    made.compiled("core", sources(made.project / "core/src"))
    return made


CORE = ("core", "project/core/src/main/resources", "project/core/src/test/resources")


def test_the_core_replays_the_golden_vectors(kotlin):
    ended = kotlin.tested([f"veca.core.{name}" for name in CORE_TESTS], *CORE)
    assert ended.returncode == 0, ended.stdout


def test_breaks_are_caught(kotlin):
    """Compiled together, each run alone: the classes of a broken file stand before the core's."""
    broken = kotlin.work / "broken-sources"
    broken.mkdir()
    for name, (right, wrong) in BREAKS.items():
        source = (kotlin.project / "core/src/main/kotlin/veca/core" / name).read_text()
        assert right in source, name
        (broken / name).write_text(source.replace(right, wrong, 1))
    kotlin.compiled("broken", sources(broken), "core", friend="core")
    for name in BREAKS:
        alone = kotlin.work / "alone" / name / "veca/core"
        alone.mkdir(parents=True)
        stem = name.removesuffix(".kt")
        for path in (kotlin.work / "broken/veca/core").glob(f"{stem}*.class"):
            shutil.copy(path, alone)
        ended = kotlin.tested(["veca.core.GoldenVectorsTest"], f"alone/{name}", *CORE)
        assert ended.returncode != 0, name
        assert "AssertionError" in ended.stdout, ended.stdout


@pytest.fixture(scope="module")
def app(kotlin) -> Kotlin:
    """The library, the app and its instrumented tests, compiled against the stand-ins."""
    kotlin.compiled("stubs", sources(roots.HERE / "kotlin/stubs"))
    project = kotlin.project
    kotlin.compiled("app", sources(project / "veca/src/main", project / "app/src"), "core", "stubs")
    phone = kotlin.work / "phone"
    shutil.copytree(project / MODELS, phone / "assets")
    shutil.copytree(project / FRAMES, phone / "test/assets/golden")
    return kotlin


APP = ("app", "core", "stubs", "project/core/src/main/resources")


def on_phone(app: Kotlin, test: str, *before: str, **arguments: object) -> subprocess.CompletedProcess[str]:
    given = {f"veca_argument.{name}": value for name, value in arguments.items()}
    executor = f"{sys.executable} {roots.HERE / 'kotlin/executor.py'}"
    return app.tested([test], *before, *APP, veca_phone=app.work / "phone", veca_executor=executor, **given)


def test_golden_frames_answer_as_the_model_did(app):
    ended = on_phone(app, "veca.camera.GoldenTest")
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("wrong", ["cores_9", "cores_8"])
def test_a_wrong_signature_is_caught(app, wrong):
    """One that is not there, and one of another core count."""
    values = (app.project / VALUES).read_text()
    folder = app.work / f"wrong-{wrong}"
    folder.mkdir()
    (folder / "veca.properties").write_text(values.replace("signature=cores_16", f"signature={wrong}"))
    ended = on_phone(app, "veca.camera.GoldenTest", folder.name)
    assert ended.returncode != 0
    assert "no signature cores_9" in ended.stdout or "at 16 cores" in ended.stdout, ended.stdout
    ended = app.tested(["veca.core.BundleTest"], folder.name, *CORE)
    assert f"expected:<cores_[16]> but was:<cores_[{wrong[-1]}]>" in ended.stdout, ended.stdout


def test_the_benchmark_leaves_every_call(app, android_app):
    folder = app.work / "phone/files/veca_edge"
    folder.mkdir(parents=True)
    artifact = android_app.variants[0]
    shutil.copy(android_app.bundle.directory / artifact.path, folder / "model.tflite")
    asked = {"signature": artifact.function, "threads": 1, "samples": 5, "seconds": 0.01, "warmup_seconds": 0.01}
    for accelerator in ("cpu", "gpu"):
        ended = on_phone(app, "veca.camera.Benchmark", **asked, most_seconds=20, accelerator=accelerator)
        assert ended.returncode == 0, ended.stdout
        left = (folder / "benchmark.json").read_text()
        if accelerator == "cpu":
            assert len(read_result(left, artifact.sha256, artifact.function, "cpu", 1).samples_ns) >= 5
        else:
            with pytest.raises(EdgeError, match="not accelerated"):
                read_result(left, artifact.sha256, artifact.function, "gpu", 1)


def test_one_file_holds_the_values(kotlin, android_app):
    """What differs between two apps beside the model, the tests' files and the README."""
    other = kotlin.work / "other"
    other.mkdir()
    write_android(App("Another", android_app.bundle, android_app.variants), other)
    different = {
        str(path.relative_to(other))
        for path in other.rglob("*")
        if path.is_file() and path.read_bytes() != (kotlin.project / path.relative_to(other)).read_bytes()
    }
    assert different == {VALUES, "README.md", f"{VECTORS}/bundle.json"}
