"""Bundles with measurements whose numbers a test knows. The measurements are made up, by name too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from bundles import bundle_around

from veca_edge.base.files import sha256_of
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.new_bundle import new_bundle
from veca_edge.bundle.store import open_bundle, write_manifest
from veca_edge.bundle.types import Artifact, Bundle, CheckpointFacts
from veca_edge.model.config import FAMILIES
from veca_edge.profiles.machine import Machine
from veca_edge.profiles.measurement import Measurement, measurement_of
from veca_edge.profiles.store import save_measurement
from veca_edge.proof.fidelity import Agreement, CosineStatistics, Fidelity

SIZE = ImageSize(32, 32)
MACHINE = Machine("Invented CPU", "x86_64", 4, 4, 8 << 30, "Linux 6", {"onnxruntime": "1.31.0"}, "here")
OTHER_MACHINE = replace(MACHINE, name="Other CPU", identity="elsewhere")
# By core count: milliseconds, cosine at the full core bank, top-1; int8 and fp32 differ by the factors below.
TABLE = {8: (10.0, 0.95, 0.70), 16: (12.0, 0.98, 0.72), 32: (16.0, 0.999, 0.74)}
SLOWER, MORE_MEMORY = 2.0, 3.0


def fidelity(core_count: int, precision: str, size: ImageSize = SIZE) -> Fidelity:
    _, cosine, top1 = TABLE[core_count]
    cosine -= 0.001 if precision == "int8" else 0.0

    def statistics(mean: float) -> CosineStatistics:
        return CosineStatistics(mean, mean - 0.01, mean - 0.1)

    own = 0.999 if precision == "int8" else 1.0
    return Fidelity(
        core_count,
        precision,
        size,
        Agreement(70, statistics(own), statistics(own), 0.99, top1),
        Agreement(70, statistics(cosine + 0.0005), statistics(cosine), 0.9, top1),
        top1,
    )


def measurement(artifact: Artifact, machine: Machine = MACHINE, scale: float = 1.0, **fields: object) -> Measurement:
    """p50 is the table's time, p95 5% above it, memory 100 MB (300 in fp32)."""
    high = artifact.precision != "int8"
    ms = scale * TABLE[artifact.core_count][0] * (SLOWER if high else 1.0)
    samples = ms * np.interp(np.linspace(0, 1, 101), (0, 0.5, 0.95, 1), (0.97, 1.0, 1.05, 1.06))
    made = measurement_of(artifact, machine, [float(s) for s in samples], "2026-01-02T03:04:05+00:00")
    return replace(
        made,
        **{
            "threads": 2,
            "load_ms": 50.0,
            "first_ms": 2 * ms,
            "round_sizes": (50, 51),
            "peak_memory_bytes": int(100e6 * (MORE_MEMORY if high else 1.0)),
            "details": {"cost": {"macs": 10**9, "attention_interactions": 12345, "counted_from": "graph"}},
            **fields,
        },
    )


def made_up_bundle(
    path: Path,
    machine: Machine | None = MACHINE,
    sizes: tuple[ImageSize, ...] = (SIZE,),
    name: str = "tiny",
    **fields: object,
) -> Bundle:
    """Six variants with files that hold their own names, fidelity and measurements (none where `machine` is None)."""
    with new_bundle(path) as directory:
        artifacts = []
        for size in sizes:
            for count in TABLE:
                for precision in ("int8", "fp32"):
                    file = f"cores{count}_{precision}_{size}.onnx"
                    (directory / file).write_bytes(file.encode())
                    artifacts.append(
                        Artifact(
                            file,
                            "onnx",
                            "cpu",
                            count,
                            precision,
                            size,
                            1,
                            "image",
                            ("cls", "dense", "logits"),
                            sha256_of(directory / file),
                            3_000_000 if precision == "int8" else 11_000_000,
                        )
                    )
        write_manifest(
            bundle_of(directory, tuple(artifacts), CheckpointFacts(name, "ab" * 32, FAMILIES["small"].config()))
        )
    bundle = open_bundle(path)
    if machine is not None:
        measure(bundle, machine, **fields)
    return bundle


def bundle_of(directory: Path, artifacts: tuple[Artifact, ...], checkpoint: CheckpointFacts) -> Bundle:
    found = tuple(fidelity(a.core_count, a.precision, a.image_size) for a in artifacts)
    return bundle_around(directory, artifacts, checkpoint, versions={"veca-edge": "0"}, fidelity=found)


def measure(bundle: Bundle, machine: Machine = MACHINE, scale: float = 1.0, **fields: Mapping | object) -> None:
    for artifact in bundle.artifacts:
        save_measurement(bundle.directory, measurement(artifact, machine, scale, **fields))
