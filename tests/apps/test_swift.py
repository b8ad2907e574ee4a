"""The Swift package of an Apple bundle: its syntax, its table, and the golden data that its test replays."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from veca_edge.apps.swift import TEMPLATES, package_swift, readme, variants_swift, write_swift_package
from veca_edge.base.errors import EdgeError
from veca_edge.images.geometry import Resize
from veca_edge.images.preprocessing import Preprocessing
from veca_edge.proof.fidelity import cosine
from veca_edge.proof.golden import write_golden
from veca_edge.runtime.program import open_mlpackage

SIZE = (32, 48)


def swift_errors(path: Path) -> list[str]:
    """What a Swift parser does not understand, with line numbers."""
    import tree_sitter
    import tree_sitter_swift

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
    found, nodes = [], [parser.parse(path.read_bytes()).root_node]
    while nodes:
        node = nodes.pop()
        if node.is_error or node.is_missing:
            found.append(f"{path.name}:{node.start_point[0] + 1}: {node.type} {node.text[:40]!r}")
        nodes.extend(node.children)
    return found


@pytest.fixture(scope="module")
def bundle(apple_packages, tmp_path_factory):
    """A bundle in the making, with int8 and fp16 packages, golden data and the Swift package."""
    source, artifacts, _ = apple_packages
    directory = tmp_path_factory.mktemp("swift")
    frames = np.random.default_rng(3).integers(0, 256, (2, *SIZE, 3), np.uint8)
    for artifact in artifacts["fp16"]:
        run = open_mlpackage(source / artifact.path, artifact.function, artifact)
        outputs = [run(frame[None]) for frame in frames]
        write_golden(
            directory,
            artifact.core_count,
            artifact.image_size,
            frames,
            {name: np.concatenate([o[name] for o in outputs]) for name in artifact.outputs},
        )
    chosen = artifacts["int8"] + artifacts["fp16"]
    for path in {a.path for a in chosen}:
        shutil.copytree(source / path, directory / path)
    written = write_swift_package(directory, chosen, {a.name: 0.99 for a in chosen})
    return directory, artifacts["int8"], written


def test_the_parser_finds_errors(tmp_path):
    (tmp_path / "broken.swift").write_text("public func f( { let x = }")
    assert swift_errors(tmp_path / "broken.swift")


def test_every_swift_file_parses(bundle):
    directory, _, written = bundle
    files = [directory / path for path in written if path.suffix == ".swift"]
    templates = {path.name for path in TEMPLATES.rglob("*.swift")}
    assert {f.name for f in files} == templates | {"Package.swift", "Variants.swift"}
    for file in files:
        assert swift_errors(file) == []
        assert max(len(line) for line in file.read_text().splitlines()) <= 180


def test_templates_hold_no_placeholders():
    for file in TEMPLATES.rglob("*.swift"):
        assert "{{" not in file.read_text()


def test_the_package_copies_one_precision_and_leaves_out_the_rest(bundle):
    directory, _, _ = bundle
    manifest = (directory / "apple/Package.swift").read_text()
    assert '.copy("veca_int8.mlpackage")' in manifest
    assert 'exclude: ["README.md", "Tests", "veca_fp16.mlpackage"]' in manifest
    assert '.iOS("18.0"), .macOS("15.0")' in manifest
    for name in ("veca_int8.mlpackage", "Sources", "Tests/VecaTests/Golden"):
        assert (directory / "apple" / name).exists()


def test_the_table_names_every_function(bundle):
    directory, artifacts, _ = bundle
    table = (directory / "apple/Sources/Veca/Variants.swift").read_text()
    for artifact in artifacts:
        assert (
            f'Variant(coreCount: {artifact.core_count}, width: 48, height: 32, package: "veca_int8", '
            f'function: "cores_{artifact.core_count}", digest: "{artifact.sha256[:12]}")'
        ) in table
    assert "defaultCoreCount = 8" in table
    assert "resize: .crop, cropRatio: 1.0,\n        interpolation: .halved, padding: (124, 116, 104))" in table


@pytest.mark.parametrize("kind", Resize)
def test_the_package_declares_the_preprocessing(apple_packages, kind):
    how = Preprocessing(kind, 0.889 if kind.takes_ratio else 1.0)
    chosen = apple_packages[1]["fp16"]
    case = kind.replace("short-side", "shortSide")
    filtered = "bicubic" if kind == Resize.SHORT_SIDE else "halved"
    declared = f"resize: .{case}, cropRatio: {how.crop_ratio},\n        interpolation: .{filtered}, padding"
    assert declared in variants_swift(chosen, how)
    assert f"    case {filtered}\n" in (TEMPLATES / "Sources/Veca/Resampling.swift").read_text()
    assert f"    case {case}\n" in (TEMPLATES / "Sources/Veca/FrameGeometry.swift").read_text()
    assert ("0.889 of the largest" in readme(chosen, how)) == kind.takes_ratio
    assert ("The whole frame is seen" in readme(chosen, how)) != kind.takes_ratio


def test_golden_data_is_what_the_test_expects(bundle):
    """The same arithmetic as GoldenTests.swift, on the executor's outputs."""
    directory, artifacts, _ = bundle
    folder = directory / "apple/Tests/VecaTests/Golden"
    listed = json.loads((folder / "golden.json").read_text())
    assert [g["coreCount"] for g in listed] == [8, 16, 32]
    for golden, artifact in zip(listed, artifacts, strict=True):
        run = open_mlpackage(directory / artifact.path, artifact.function, artifact)
        frames = np.frombuffer((folder / golden["frames"]).read_bytes(), np.uint8).reshape(
            golden["frameCount"], golden["height"], golden["width"], 3
        )
        assert golden["minimumCosine"] == 0.985
        for name, output in golden["outputs"].items():
            rows = golden["patches"] if name == "dense" else [0]
            expected = np.frombuffer((folder / output["file"]).read_bytes(), "<f4").reshape(
                -1, len(rows), output["width"]
            )
            made = [run(frame[None])[name].reshape(-1, output["width"])[rows] for frame in frames]
            assert cosine(np.stack(made), expected).mean() > 0.97


def test_separate_packages_have_no_functions(bundle):
    _, artifacts, _ = bundle
    alone = [
        replace(a, function=None, path=f"apple/cores{a.core_count}.mlpackage", details={**a.details, "ios": 17})
        for a in artifacts
    ]
    manifest = package_swift(alone, alone)
    assert manifest.count(".copy(") == 4
    assert '.iOS("17.0"), .macOS("14.0")' in manifest


def test_tensor_input_has_no_swift_package(apple_packages, tmp_path):
    _, artifacts, _ = apple_packages
    with pytest.raises(EdgeError, match="camera frames"):
        write_swift_package(tmp_path, [replace(artifacts["int8"][0], input="tensor")], {})
    assert not list(tmp_path.iterdir())
