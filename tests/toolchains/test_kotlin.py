"""The Android project compiled by the real Kotlin compiler, and its tests run; `kotlin_project.py` says how."""

from __future__ import annotations

import shutil

import pytest

from veca_edge.apps.android import VALUES, VECTORS, write_android
from veca_edge.apps.base import App
from veca_edge.base.errors import EdgeError
from veca_edge.profiles.android.results import read_result

from .kotlin_project import CORE, Kotlin, sources

# What a port gets wrong, by the file it is in: one change each.
BREAKS = {
    "Resampling.kt": ("narrow[at + x * 3] = byte(red)", "narrow[at + x * 3] = byte(blue)"),
    "FrameGeometry.kt": ("(frame.width - width).floorDiv(2)", "0"),
    "Governor.kt": ("missed.size < rules.burstMisses", "missed.size <= rules.burstMisses"),
}


@pytest.fixture(scope="module")
def kotlin(kotlin_root, android_app, tmp_path_factory) -> Kotlin:
    """The project of `android_app` with an awkward name, and its core and the core's tests compiled."""
    made = Kotlin(kotlin_root, tmp_path_factory.mktemp("kotlin"))
    made.project.mkdir()
    write_android(android_app, made.project)
    made.compile_core()
    return made


def test_the_core_replays_the_golden_vectors(kotlin):
    ended = kotlin.core_tested()
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
    kotlin.compile_app()
    return kotlin


def test_golden_frames_answer_as_the_model_did(app):
    ended = app.on_phone("veca.camera.GoldenTest")
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("wrong", ["cores_9", "cores_8"])
def test_a_wrong_signature_is_caught(app, wrong):
    """One that is not there, and one of another core count."""
    values = (app.project / VALUES).read_text()
    folder = app.work / f"wrong-{wrong}"
    folder.mkdir()
    (folder / "veca.properties").write_text(values.replace("signature=cores_16", f"signature={wrong}"))
    ended = app.on_phone("veca.camera.GoldenTest", folder.name)
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
        ended = app.on_phone("veca.camera.Benchmark", **asked, most_seconds=20, accelerator=accelerator)
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
