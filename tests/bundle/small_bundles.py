"""Bundles of a few small files, with everything that a manifest can say."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from veca_edge.base.files import sha256_of
from veca_edge.base.spec import ExportSpec, ImageSize
from veca_edge.bundle.readme import write_readme
from veca_edge.bundle.store import write_manifest
from veca_edge.bundle.types import (
    Agreement,
    Artifact,
    Bundle,
    BundleDetails,
    CheckpointFacts,
    CosineStatistics,
    Fidelity,
)
from veca_edge.model.config import FAMILIES
from veca_edge.proof.golden import write_golden

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
