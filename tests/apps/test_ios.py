"""The iOS project as it is generated; `tests/toolchains/test_swift.py` compiles it and runs its tests."""

from __future__ import annotations

import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from bundles import AWKWARD_LABELS, bundle_around

from veca_edge.apps.base import App
from veca_edge.apps.ios import NAME, PACKAGE, TESTS, VALUES, VECTORS, strings_literal, write_ios
from veca_edge.bundle.types import BundleDetails
from veca_edge.proof.golden import write_golden

APP_NAME = 'An "app" \\(x) ${y} \U0001f4f7'


@pytest.fixture(scope="module")
def project(apple_packages, tmp_path_factory):
    source, artifacts, _ = apple_packages
    chosen = artifacts["fp16"]
    bundle = tmp_path_factory.mktemp("ios-bundle")
    for path in {a.path for a in chosen}:
        shutil.copytree(source / path, bundle / path)
    frames = np.zeros((1, 32, 48, 3), np.uint8)
    for artifact in chosen:
        outputs = {name: np.ones((1, 3, 4) if name == "dense" else (1, 4), np.float32) for name in artifact.outputs}
        write_golden(bundle, artifact.core_count, artifact.image_size, frames, outputs)
    facts = BundleDetails({a.name: 1.0 for a in chosen})
    folder = tmp_path_factory.mktemp("ios-project")
    write_ios(App(APP_NAME, bundle_around(bundle, chosen, labels=AWKWARD_LABELS, details=facts), tuple(chosen)), folder)
    return folder


def parsed(path) -> dict:
    """A property list in OpenStep's syntax."""
    parser = pytest.importorskip("openstep_parser", reason="openstep-parser is not installed: pip install -e '.[dev]'")
    return parser.OpenStepDecoder.ParseFromString(path.read_text())


def test_the_xcode_project_holds_together(project):
    whole = parsed(project / "VecaCamera.xcodeproj/project.pbxproj")
    objects = whole["objects"]
    assert objects[whole["rootObject"]]["isa"] == "PBXProject"

    def references(value):
        if isinstance(value, str) and re.fullmatch(r"[0-9A-F]{24}", value):
            yield value
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from references(part)

    used = {whole["rootObject"]} | {key for entry in objects.values() for key in references(entry)}
    assert used == set(objects)
    kinds = {entry["isa"]: entry for entry in objects.values()}
    assert (project / kinds["XCLocalSwiftPackageReference"]["relativePath"] / "Package.swift").is_file()
    for entry in objects.values():
        if entry["isa"] == "PBXFileReference" and entry["sourceTree"] == "<group>":
            assert (project / entry["path"]).is_file()
        if entry["isa"] == "PBXFileSystemSynchronizedRootGroup":
            assert list((project / entry["path"]).glob("*.swift"))
            for folder in entry.get("explicitFolders", ()):
                assert (project / entry["path"] / folder).is_dir()
    settings = [e["buildSettings"] for e in objects.values() if e["isa"] == "XCBuildConfiguration"]
    assert {s["SWIFT_VERSION"] for s in settings if "SWIFT_VERSION" in s} == {"6.0"}
    assert sum("INFOPLIST_KEY_NSCameraUsageDescription" in s for s in settings) == 2


def test_the_scheme_builds_the_app_and_tests_in_it(project):
    objects = parsed(project / "VecaCamera.xcodeproj/project.pbxproj")["objects"]
    scheme = ElementTree.parse(project / "VecaCamera.xcodeproj/xcshareddata/xcschemes/VecaCamera.xcscheme")
    for asked in scheme.iter("BuildableReference"):
        target = objects[asked.attrib["BlueprintIdentifier"]]
        assert target["name"] == asked.attrib["BlueprintName"]
        assert objects[target["productReference"]]["path"] == asked.attrib["BuildableName"]
    (tested,) = scheme.iter("TestableReference")
    tests = objects[tested[0].attrib["BlueprintIdentifier"]]
    folders = [objects[key]["path"] for key in tests["fileSystemSynchronizedGroups"]]
    assert folders == [TESTS, "Tests"]
    (depends,) = tests["dependencies"]
    app = objects[objects[depends]["target"]]
    for key in objects[tests["buildConfigurationList"]]["buildConfigurations"]:
        host = objects[key]["buildSettings"]["TEST_HOST"]
        assert host == f"$(BUILT_PRODUCTS_DIR)/{app['name']}.app/{app['name']}"


def test_names_and_labels_are_escaped(project):
    assert parsed_strings(project) == {"CFBundleDisplayName": APP_NAME}
    values = (project / VALUES).read_text()
    assert 'let appName = "An \\"app\\" \\\\(x) ${y} \U0001f4f7"' in values
    assert '"two\\u{a}lines"' in values
    assert strings_literal('"\\') == '"\\"\\\\"'


def parsed_strings(project) -> dict:
    text = (project / NAME).read_text()
    found = re.findall(r'^(\w+) = "((?:[^"\\]|\\.)*)";$', text, re.MULTILINE)
    assert len(found) == len(text.splitlines())
    return {key: re.sub(r"\\(.)", r"\1", value) for key, value in found}


def test_the_lowest_ios_is_that_of_the_packages(project):
    assert (project / "Values.xcconfig").read_text() == "IPHONEOS_DEPLOYMENT_TARGET = 18.0\n"
    manifest = (project / PACKAGE / "Package.swift").read_text()
    assert '.iOS("18.0")' in manifest
    assert '.copy("Golden")' in manifest
    assert '.copy("Vectors")' in manifest
    assert (project / TESTS / VECTORS / "vectors.json").is_file()
