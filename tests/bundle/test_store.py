"""Bundles on disk: what is written is read back, and what is wrong with one is said."""

import json
from dataclasses import replace

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.files import sha256_of
from veca_edge.base.spec import GraphSpec
from veca_edge.bundle.new_bundle import new_bundle
from veca_edge.bundle.store import (
    add_artifacts,
    artifact_for,
    find_artifact,
    open_bundle,
    verify_artifacts,
    verify_files,
    withdraw_artifacts,
    write_manifest,
)
from veca_edge.bundle.types import ADDED_FIELDS, manifest_schema
from veca_edge.model.config import FAMILIES
from veca_edge.model.plan import Variant
from veca_edge.proof.golden import golden_patches, read_golden

from .small_bundles import SIZE, artifact, fill

# ----------------------------------------------------------------------------------- manifest


def test_what_is_written_is_read_back(bundle, tmp_path):
    assert bundle.directory == tmp_path / "out"
    assert bundle.core_counts == (8, 16)
    assert bundle.labels == ("cat", "dog")
    assert bundle.spec.image_sizes == (SIZE,)
    assert bundle.checkpoint.config == FAMILIES["small"].config()
    assert set(bundle.files) == {
        "README.md",
        "recipe.safetensors",
        "golden/frames_32x48.npz",
        "golden/cores8_32x48.npz",
        "golden/cores16_32x48.npz",
    }
    assert open_bundle(tmp_path / "out") == bundle
    assert verify_files(bundle) == 7
    readme = (bundle.directory / "README.md").read_text()
    assert "Load the `.onnx` files." in readme
    assert "| 8 | int8 | 32x48 | `models/cores8_int8_32x48.onnx` |" in readme
    assert "veca-edge verify ." in readme


def test_the_schema_is_of_what_is_written(bundle):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(manifest_schema())
    validator.check_schema(manifest_schema())
    data = json.loads((bundle.directory / "manifest.json").read_text())
    validator.validate(data)
    for name in data.keys() - set(ADDED_FIELDS):
        assert not validator.is_valid({key: value for key, value in data.items() if key != name})
    assert not validator.is_valid({**data, "surprise": 1})
    assert not validator.is_valid({**data, "recipe": "../x"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["artifacts"][0].update(precision="fp7"), "Unknown precision 'fp7'. Known: int8, w8, fp16, fp32."),
        (lambda d: d["spec"].update(precisions=["fp7"]), "Unknown precision 'fp7'. Known: int8, w8, fp16, fp32."),
        (lambda d: d["artifacts"][0].pop("sha256"), r"missing required field `sha256` - at `\$.artifacts\[0\]`"),
        (lambda d: d["artifacts"][0].update(path="../../etc/passwd"), r"\$.artifacts\[0\].path"),
        (
            lambda d: d["artifacts"][0].update(core_count="8"),
            r"Expected `int`, got `str` - at `\$.artifacts.*core_count`",
        ),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.update(schema_version=9), "schema version 9, but this veca-edge reads version 1"),
        (lambda d: d.pop("schema_version"), "not the manifest of a veca-edge bundle"),
    ],
)
def test_says_what_is_wrong_with_a_manifest(bundle, change, said):
    path = bundle.directory / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(EdgeError, match=said) as caught:
        open_bundle(bundle.directory)
    assert caught.value.hint


def test_says_what_is_no_bundle(bundle, tmp_path):
    with pytest.raises(EdgeError, match="no bundle at"):
        open_bundle(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(EdgeError, match="is not a bundle"):
        open_bundle(tmp_path / "other")
    path = bundle.directory / "manifest.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(EdgeError, match="can't be read"):
        open_bundle(bundle.directory)


def test_names_changed_and_missing_files(bundle):
    (bundle.directory / "models/cores8_int8_32x48.onnx").write_bytes(b"other")
    (bundle.directory / "recipe.safetensors").unlink()
    with pytest.raises(EdgeError, match=r"missing: recipe.safetensors; changed: models/cores8_int8_32x48.onnx"):
        verify_files(bundle)


def test_what_an_artifact_is_opened_from_is_checked_alone(bundle):
    """Its own file and the weights beside it, and nothing of the others."""
    first, *_, other = bundle.artifacts
    (bundle.directory / "recipe.safetensors").unlink()
    verify_artifacts(bundle, [first])
    (bundle.directory / other.path).write_bytes(b"other")
    verify_artifacts(bundle, [first])
    with pytest.raises(EdgeError, match=f"changed: {other.path}"):
        verify_artifacts(bundle, [other])


def test_measurements_are_no_part_of_the_digests(bundle):
    (bundle.directory / "profiles").mkdir()
    (bundle.directory / "profiles" / "one.json").write_text("{}")
    assert "profiles/one.json" not in write_manifest(bundle).files
    assert verify_files(bundle) == 7


# ---------------------------------------------------------------------------------- artifacts


def test_an_artifact_counts_the_weights_it_refers_to(tmp_path):
    (tmp_path / "m.onnx").write_bytes(bytes(20))
    variant = Variant(GraphSpec(8, SIZE), "int8", None)
    made = artifact_for(tmp_path, "m.onnx", "onnx", "cpu", variant, details={"a": 1}, external_bytes=140)
    assert made.bytes == 160
    assert made.sha256 == sha256_of(tmp_path / "m.onnx")


def test_a_directory_is_an_artifact_too(tmp_path):
    package = tmp_path / "m.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "weights").write_bytes(bytes(10))
    (package / "info").write_bytes(b"ab")
    variant = Variant(GraphSpec(8, SIZE), "int8", None)
    made = artifact_for(tmp_path, "m.mlpackage", "mlpackage", "apple", variant, function="cores_8")
    assert made.bytes == 12
    (package / "info").write_bytes(b"ac")
    assert sha256_of(package) != made.sha256


def test_engines_are_added_later(bundle):
    engine = bundle.directory / "cores8.engine"
    engine.write_bytes(b"engine")
    (bundle.directory / "cores8.log").write_text("log")
    added = add_artifacts(bundle, [artifact("cores8.engine", format="engine", sha256=sha256_of(engine))])
    assert open_bundle(bundle.directory) == added
    assert [a.format for a in added.artifacts] == ["onnx", "onnx", "engine"]
    assert "cores8.log" in added.files
    again = add_artifacts(added, [artifact("cores8.engine", format="engine", sha256="1" * 64)])
    assert [a.sha256 for a in again.artifacts if a.format == "engine"] == ["1" * 64]


def test_adding_does_not_hide_a_change(bundle):
    (bundle.directory / "recipe.safetensors").write_bytes(b"changed")
    with pytest.raises(EdgeError, match=r"changed: recipe.safetensors"):
        verify_files(add_artifacts(bundle, []))


def engine_in(bundle, folder, content=b"engine"):
    """An engine and its log, just written."""
    path = bundle.directory / "engines" / folder / "m.engine"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_suffix(".log").write_bytes(b"log of " + content)
    return artifact(f"engines/{folder}/m.engine", format="engine", sha256=sha256_of(path))


def test_what_is_built_again_is_verified_as_it_is_then(bundle):
    first = add_artifacts(bundle, [engine_in(bundle, "orin")])
    assert verify_files(first) == 9
    withdraw_artifacts(first, "engines/orin/m")
    # Killed now, or in the middle of writing, it is whole without the engine.
    assert verify_files(open_bundle(bundle.directory)) == 7
    assert open_bundle(bundle.directory) == bundle
    again = add_artifacts(first, [engine_in(bundle, "orin", b"another")])
    assert verify_files(again) == 9
    assert open_bundle(bundle.directory) == again


def test_two_builds_lose_nothing_of_each_other(bundle):
    add_artifacts(bundle, [engine_in(bundle, "orin")])
    both = add_artifacts(bundle, [engine_in(bundle, "xavier")])
    assert {a.path for a in both.artifacts} >= {"engines/orin/m.engine", "engines/xavier/m.engine"}
    assert verify_files(both) == 11


def test_nothing_is_added_to_a_bundle_that_took_the_place(bundle):
    with new_bundle(bundle.directory, force=True) as directory:
        fill(directory)
        write_manifest(replace(open_bundle(directory), created_at="2000-01-01T00:00:00+00:00"))
    engine = engine_in(bundle, "orin")
    before = open_bundle(bundle.directory)
    for change in (lambda: add_artifacts(bundle, [engine]), lambda: withdraw_artifacts(bundle, "models/cores8")):
        with pytest.raises(EdgeError, match="was replaced by another bundle meanwhile"):
            change()
    assert open_bundle(bundle.directory) == before


@pytest.mark.parametrize("name", [".manifest.json.0123abcd", ".a.mp4.0123abcd.mp4", "m.engine.0123abcd.part"])
def test_what_was_half_written_is_not_of_the_bundle(bundle, name):
    (bundle.directory / name).write_bytes(b"half")
    assert add_artifacts(bundle, []).files == bundle.files


def test_finds_one_artifact_or_lists_them(bundle):
    assert find_artifact(bundle, core_count=16).core_count == 16
    with pytest.raises(EdgeError, match="nothing with core count 24") as caught:
        find_artifact(bundle, core_count=24)
    assert "8, 16" in caught.value.hint
    with pytest.raises(EdgeError, match="holds 2 variants with precision int8: cores8"):
        find_artifact(bundle, precision="int8")
    two = replace(bundle, artifacts=(artifact(), artifact(core_count=16, precision="fp32")))
    with pytest.raises(EdgeError, match="no variant with core count 16 and precision int8"):
        find_artifact(two, 16, "int8")


# ------------------------------------------------------------------------------------- golden


def test_golden_data_is_read_back(bundle):
    golden = read_golden(bundle.directory, 8, SIZE)
    assert golden.frames.shape == (2, 32, 48, 3)
    assert golden.frames.dtype == np.uint8
    assert golden.outputs["dense"].shape == (2, 16, 4)
    full = {"dense": np.arange(2 * 60 * 4).reshape(2, 60, 4), "cls": np.ones((2, 4))}
    np.testing.assert_array_equal(golden.of(full)["dense"], golden.outputs["dense"])
    assert golden_patches(60)[[0, -1]].tolist() == [0, 59]
    assert golden_patches(4).tolist() == [0, 1, 2, 3]
    with pytest.raises(EdgeError, match="no golden data for 24 cores"):
        read_golden(bundle.directory, 24, SIZE)
    for content in (b"", b"nonsense", (bundle.directory / "golden/cores8_32x48.npz").read_bytes()[:200]):
        (bundle.directory / "golden/cores8_32x48.npz").write_bytes(content)
        with pytest.raises(EdgeError, match="can't be read"):
            read_golden(bundle.directory, 8, SIZE)
