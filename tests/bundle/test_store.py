import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.files import held, sha256_of
from veca_edge.base.spec import ExportSpec, GraphSpec, ImageSize
from veca_edge.bundle.readme import write_readme
from veca_edge.bundle.store import (
    add_artifacts,
    artifact_for,
    check_output,
    find_artifact,
    new_bundle,
    open_bundle,
    verify_files,
    withdraw_artifacts,
    write_manifest,
)
from veca_edge.bundle.types import (
    ADDED_FIELDS,
    Agreement,
    Artifact,
    Bundle,
    BundleDetails,
    CheckpointFacts,
    CosineStatistics,
    Fidelity,
    manifest_schema,
)
from veca_edge.model.config import FAMILIES
from veca_edge.model.plan import Variant
from veca_edge.proof.golden import golden_patches, read_golden, write_golden

SIZE = ImageSize(32, 48)


def artifact(path="models/cores8_int8_32x48.onnx", core_count=8, precision="int8", format="onnx", sha256="0" * 64):
    return Artifact(path, format, "cpu", core_count, precision, SIZE, 1, "image", ("cls", "dense"), sha256, 10)


def bundle_of(directory: Path, artifacts: tuple[Artifact, ...]) -> Bundle:
    bare = Agreement(2, None, None)
    return Bundle(
        directory=directory,
        spec=ExportSpec("cpu", (8, 16), ("int8",), (SIZE,)),
        checkpoint=CheckpointFacts("tiny", "ab" * 32, FAMILIES["small"].config()),
        preprocessing={"resize": "bicubic"},
        versions={"veca-edge": "0.1.0"},
        artifacts=artifacts,
        recipe="recipe.safetensors",
        fidelity=(Fidelity(8, "int8", SIZE, Agreement(2, CosineStatistics(1.0, 0.9, 0.8), None), bare),),
        details=BundleDetails({artifacts[0].name: 0.5}, ("blocks.0.fc1",)),
        labels=("cat", "dog"),
    )


def fill(directory: Path, artifacts=None) -> Bundle:
    """A small but complete bundle; its models are not models."""
    (directory / "models").mkdir()
    if artifacts is None:
        artifacts = []
        for count in (8, 16):
            path = f"models/cores{count}_int8_32x48.onnx"
            (directory / path).write_bytes(bytes([count]) * 100)
            artifacts.append(replace(artifact(path, count), sha256=sha256_of(directory / path)))
    (directory / "recipe.safetensors").write_bytes(b"recipe")
    frames = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    outputs = {"cls": np.ones((2, 4), np.float32), "dense": np.arange(2 * 60 * 4).reshape(2, 60, 4).astype(np.float32)}
    for count in (8, 16):
        write_golden(directory, count, SIZE, frames, outputs)
    bundle = bundle_of(directory, tuple(artifacts))
    write_readme(bundle, "Resize it.", ["## ONNX", "Load the `.onnx` files."])
    return write_manifest(bundle)


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    with new_bundle(tmp_path / "out") as directory:
        fill(directory)
    return open_bundle(tmp_path / "out")


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


# ----------------------------------------------------------------------- writing, atomically


def test_a_failure_leaves_nothing(tmp_path):
    def fail():
        with new_bundle(tmp_path / "deep" / "er" / "out") as directory:
            fill(directory)
            raise EdgeError("no")

    with pytest.raises(EdgeError, match="no"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_replaces_only_with_force_and_only_bundles(bundle, tmp_path):
    output = bundle.directory
    with pytest.raises(EdgeError, match="exists already"):
        check_output(output, force=False)
    with pytest.raises(EdgeError, match="is not a bundle"):
        check_output(tmp_path, force=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeError, match="is not a bundle"):
        check_output(tmp_path / "file", force=True)
    with pytest.raises(EdgeError, match="is not a directory"):
        check_output(tmp_path / "file" / "out", force=False)
    (output / "old").write_text("")
    with pytest.raises(ZeroDivisionError), new_bundle(output, force=True):
        _ = 1 / 0
    assert (output / "old").exists()
    with new_bundle(output, force=True) as directory:
        fill(directory)
        assert (output / "old").exists()
    assert not (output / "old").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_link_is_followed_when_replacing(bundle, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(bundle.directory)
    (bundle.directory / "old").write_text("")
    with new_bundle(link, force=True) as directory:
        fill(directory)
    assert link.is_symlink()
    assert not (bundle.directory / "old").exists()


def test_refuses_when_another_took_the_place_meanwhile(tmp_path):
    def run():
        with new_bundle(tmp_path / "out") as directory:
            fill(directory)
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").write_text("")

    with pytest.raises(EdgeError, match="appeared while"):
        run()
    assert (tmp_path / "out" / "theirs").exists()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_error(tmp_path):
    def run():
        with new_bundle(tmp_path / "out"), open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    with pytest.raises(EdgeError, match="disk is full") as caught:
        run()
    assert "another place" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_stay_bugs(tmp_path):
    with pytest.raises(FileNotFoundError), new_bundle(tmp_path / "out"):
        (tmp_path / "missing").read_text()


KILLED = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from veca_edge.bundle.store import new_bundle
    with new_bundle(Path(sys.argv[1]), force=True) as directory:
        (directory / "half").write_text("half")
        print("writing", flush=True)
        time.sleep(60)
""")


def test_killed_it_leaves_the_old_one_and_the_next_run_cleans_up(bundle, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(bundle.directory)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    left = next(p for p in tmp_path.iterdir() if p.name.startswith(".out.veca-edge-incomplete-"))
    # A run that is still at work is left alone.
    with new_bundle(bundle.directory, force=True) as directory:
        fill(directory)
    assert left.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert verify_files(open_bundle(bundle.directory)) == 7
    with new_bundle(bundle.directory, force=True) as directory:
        fill(directory)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_bundle_that_was_moved_away_comes_back(bundle, tmp_path):
    bundle.directory.rename(tmp_path / ".out.veca-edge-replaced-12345678")
    with pytest.raises(EdgeError, match="replacing it was interrupted"):
        open_bundle(bundle.directory)
    with pytest.raises(ZeroDivisionError), new_bundle(bundle.directory):
        _ = 1 / 0
    assert open_bundle(bundle.directory) == bundle


def test_a_lock_is_seen_by_others(tmp_path):
    with held(tmp_path) as first, held(tmp_path) as second:
        assert (first, second) == (True, False)


@pytest.mark.parametrize("force", [True, False])
def test_exports_to_one_output_at_once_end_well_or_in_one_message(tmp_path, force):
    ended = []

    def export(label: str) -> None:
        for i in range(5):
            try:
                with new_bundle(tmp_path / "made" / "out", force) as directory:
                    (directory / "models").mkdir()
                    (directory / "models/a").write_text(f"{label} {i}")
                    one = artifact("models/a", sha256=sha256_of(directory / "models/a"))
                    write_manifest(bundle_of(directory, (one,)))
            except BaseException as error:
                ended.append(error)
            else:
                ended.append(None)

    threads = [threading.Thread(target=export, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [error for error in ended if error is not None]
    assert len(ended) == 20
    assert all(isinstance(error, EdgeError) for error in failed), failed
    assert len(failed) == (0 if force else 19)
    assert verify_files(open_bundle(tmp_path / "made" / "out")) == 1
    assert os.listdir(tmp_path / "made") == ["out"]


def test_hints_quote_names(bundle, tmp_path):
    (tmp_path / "it's here").mkdir()
    odd = tmp_path / "it's here" / "a b"
    bundle.directory.rename(odd.with_name(".a b.veca-edge-replaced-12345678"))
    with pytest.raises(EdgeError, match="replacing it was interrupted") as caught:
        open_bundle(odd)
    assert caught.value.hint is not None
    subprocess.run(caught.value.hint.partition(": ")[2], shell=True, check=True)
    assert open_bundle(odd).checkpoint.name == "tiny"


@pytest.mark.parametrize("kind", ["trash", "incomplete", "replaced"])
def test_what_was_half_deleted_never_comes_back(bundle, tmp_path, kind):
    output = bundle.directory
    output.rename(tmp_path / f".out.veca-edge-{kind}-12345678")
    if kind == "replaced":
        # As an earlier version left it when it was killed while it deleted.
        (tmp_path / f".out.veca-edge-{kind}-12345678" / "recipe.safetensors").unlink()
    with pytest.raises(EdgeError, match=r"There is no bundle at [^:]*\.") as caught:
        open_bundle(output)
    assert "mv" not in str(caught.value.hint)
    with new_bundle(output) as directory:
        fill(directory)
    assert os.listdir(tmp_path) == ["out"]
