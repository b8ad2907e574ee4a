"""The Android project as it is generated; `tests/toolchains/test_kotlin.py` compiles it and runs its tests."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib  # pytest brings it to Python 3.10

from veca_edge.apps.android import FRAMES, MODELS, VALUES, properties, resource_string, values, write_android
from veca_edge.base.errors import EdgeError
from veca_edge.bundle.types import BundleDetails


@pytest.fixture(scope="module")
def project(android_app, tmp_path_factory):
    folder = tmp_path_factory.mktemp("android-project")
    write_android(android_app, folder)
    return folder


def test_the_model_and_its_golden_frames_are_there(project, android_app):
    path = android_app.bundle.directory / android_app.variants[0].path
    assert (project / MODELS / path.name).read_bytes() == path.read_bytes()
    listed = json.loads((project / FRAMES / "golden.json").read_text())
    assert [entry["coreCount"] for entry in listed] == [8, 16]
    for entry in listed:
        for output in entry["outputs"].values():
            assert (project / FRAMES / output["file"]).stat().st_size > 0


def test_properties_are_ascii_and_one_line_each(project, android_app):
    lines = (project / VALUES).read_text("ascii").splitlines()
    assert len(lines) == 1 + len(values(android_app))
    assert all(re.match(r"[A-Za-z0-9.]+=", line) for line in lines[1:])
    assert properties({"key": " a\\b\n\U0001f4f7"}).splitlines()[1] == "key=\\ a\\\\b\\u000a\\ud83d\\udcf7"


def test_resource_strings_are_escaped():
    assert resource_string('it\'s "@" \\') == 'it\\\'s \\"@\\" \\\\'
    assert resource_string("@string/x") == "\\@string/x"


def test_plugins_and_libraries_are_in_the_catalog(project):
    catalog = tomllib.loads((project / "gradle/libs.versions.toml").read_text())
    for entry in [*catalog["libraries"].values(), *catalog["plugins"].values()]:
        if "version" in entry:
            assert entry["version"]["ref"] in catalog["versions"]
    known = {name.replace("-", ".") for name in catalog["libraries"]}
    known |= {f"plugins.{name.replace('-', '.')}" for name in catalog["plugins"]} | {"versions.litert.get"}
    for script in project.rglob("*.gradle.kts"):
        for alias in re.findall(r"\blibs\.([a-z0-9.]+)", script.read_text()):
            assert alias.rstrip(".") in known, (script, alias)


def test_manifests_are_xml(project):
    manifests = list(project.rglob("AndroidManifest.xml"))
    assert len(manifests) == 2
    for path in manifests:
        assert ElementTree.parse(path).getroot().tag == "manifest"


def test_the_readme_shows_the_name_as_it_is(project, android_app):
    title = (project / "README.md").read_text().splitlines()[0]
    assert html.unescape(title) == f"# {android_app.name}"
    assert not set(title[1:].replace("&#", "")) & set("\\<{`*_")


def test_a_bundle_without_golden_figures_is_refused(android_app, tmp_path):
    bundle = replace(android_app.bundle, details=BundleDetails())
    with pytest.raises(EdgeError, match="Export again"):
        write_android(replace(android_app, bundle=bundle), tmp_path)
